"""Unbiased reduction of a sum of outer products to fewer of them, at least variance.

The reduction turns m pairs (a_i, b_i) into k < m pairs whose expected sum is
``M = Σ a_i ⊗ b_i``. Let d be the singular values of M, u and v its singular vectors, l_i any unit
vectors of k coordinates, and σ_i fair and independent signs. Then the pairs

    a'_j = Σ_i σ_i l_ij √d_i u_i,      b'_j = Σ_i σ_i l_ij √d_i v_i,      j = 1 … k

are unbiased: ``E[Σ_j a'_j ⊗ b'_j] = Σ_i d_i u_i ⊗ v_i = M``. Their variance is
``Σ d_i d_j <l_i, l_j>²`` over i ≠ j. The variance is least if the vectors ``√p_i l_i`` are the rows
of a matrix with orthonormal columns, for the shares p of `water_filling`.

M itself is never formed. The vectors may be of any length; the reduction uses only a small matrix
of coordinates with a column for each pair: a triangular factor of the vectors, or a root of their
inner products.

Both sides of the result have the same inner products, ``Σ_i d_i l_ij l_ik``.

References:
    Benzing, Gauy, Mujika, Martinsson & Steger, "Optimal Kronecker-Sum Approximation of Real Time
    Recurrent Learning", ICML 2019, arXiv:1902.03993: the optimal approximation, here of any outer
    products and not only of Kronecker products. The unit vectors are computed in another way.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

FLOOR = 64
"""Threshold of linear dependence: smallest squared distance of a unit vector from the span of the
earlier ones, in units of roundoff times the number of vectors."""

FAINT = 8
"""Threshold of rounding: smallest singular value that is kept, in units of roundoff times the
number of pairs times the largest singular value."""


class Side(NamedTuple):
    """One side of m pairs, ``a_1 … a_m`` or ``b_1 … b_m``.

    Attributes:
        lengths: Norms of the vectors, shape (m,).
        root: Matrix whose m columns are the directions of the vectors, as coordinates in an
            orthonormal basis of their span. The column of a zero vector is arbitrary.
    """

    lengths: Any
    root: Any


class Reduction(NamedTuple):
    """Weights by which m pairs combine to k.

    Attributes:
        tangents: Weights of ``a_1 … a_m``, shape (k, m).
        cotangents: Weights of ``b_1 … b_m``, shape (k, m).
        added: Variance ``E ‖Σ a'_j ⊗ b'_j - M‖²`` in the Frobenius norm.
    """

    tangents: Any
    cotangents: Any
    added: Any


def side_of_gram(xp: Any, gram: Any) -> Side:
    """Build a side from the inner products of its vectors.

    The vectors are scaled to unit length first, so that rounding errors depend only on the angles
    between them, and not on their sizes.

    Args:
        xp: Array functions of the framework.
        gram: Matrix of inner products, shape (m, m).
    """
    lengths = xp.sqrt(xp.diagonal(gram))
    inverse = xp.where(lengths > 0, 1.0 / xp.where(lengths > 0, lengths, 1.0), 0.0)
    unit = _identity(xp, lengths)
    cosines = xp.clip(gram * inverse[:, None] * inverse[None, :], -1.0, 1.0)
    return Side(lengths, _root(xp, xp.where(unit > 0, 1.0, cosines), unit))


def _root(xp: Any, gram: Any, unit: Any) -> Any:
    """Compute an upper triangular root of a Gram matrix of unit vectors, row by row.

    The root is Cholesky's, except for vectors that depend on those before them up to rounding: such
    a vector gets a row of its own, of the size of rounding. Therefore a root exists even if
    rounding has made the matrix indefinite. Both this and the squared condition number cost
    variance and no bias, since the reduction is unbiased for *any* invertible roots.
    """
    least = FLOOR * len(gram) * xp.finfo(gram.dtype).eps
    from_here = xp.cumsum(unit, 1)
    rows: list[Any] = []  # list[Any]() is no call that torch.compile can follow
    for i, rest in enumerate(gram):
        if rows:
            above = xp.stack(rows)
            rest = rest - above[:, i] @ above
        apart = rest[i] > least
        pivot = xp.where(apart, rest[i], least)
        rows.append(xp.where(apart, from_here[i] * rest / xp.sqrt(pivot), unit[i] * xp.sqrt(pivot)))
    return xp.stack(rows)


def side_of_rows(xp: Any, rows: Any) -> Side:
    """Build a side from its vectors, the rows of a matrix of shape (m, n).

    For n > m the directions are triangularised, which does not square the condition number as a
    root of the inner products does.
    """
    lengths = xp.sqrt((rows**2).sum(1))
    directions = (rows / xp.where(lengths > 0, lengths, 1.0)[:, None]).T
    m, n = rows.shape
    return Side(lengths, xp.linalg.qr(directions)[1] if n > m else directions)


def reduce_pairs(xp: Any, left: Side, right: Side, signs: Any, rank: int) -> Reduction:
    """Reduce m pairs to k at the least variance.

    Let R be the roots of both sides, and ``R_a diag(‖a‖ ‖b‖) R_bᵀ = X diag(d) Yᵀ`` the singular
    value decomposition of M in their bases. Then ``√d u_i`` has the weights ``y_iᵀ R_b / √d_i`` in
    the ``a_j ‖b_j‖``, and ``√d v_i`` the weights ``x_iᵀ R_a / √d_i`` in the ``b_j ‖a_j‖``. No root
    is inverted, and no norm is divided by.

    If any number is not finite, the weights are NaN.

    Args:
        xp: Array functions of the framework.
        left: The side of a.
        right: The side of b.
        signs: σ, at least as many as each root has rows.
        rank: k.
    """
    core = (left.root * (left.lengths * right.lengths)[None, :]) @ right.root.T
    sound = xp.isfinite(core.sum())
    basis, values, cobasis = xp.linalg.svd(xp.where(sound, core, 0.0), full_matrices=False)
    noise = FAINT * len(left.lengths) * xp.finfo(values.dtype).eps
    values = xp.where(values > noise * values[0], values, 0.0)
    kept = water_filling(xp, values, rank)
    seen = values > 0
    signs = xp.where(_leaning(xp, basis) < 0, -signs[: len(values)], signs[: len(values)])
    scale = xp.where(seen, xp.where(seen, values, 1.0) ** -0.5, 0.0) * signs
    rows = (unit_rows(xp, kept, rank) * scale[:, None]).T
    rows = xp.where(sound, rows, float("nan"))
    likely = xp.where(kept > 0, kept, 1.0)
    return Reduction(
        rows @ (cobasis @ right.root * right.lengths[None, :]),
        rows @ (basis.T @ left.root * left.lengths[None, :]),
        (values**2 * (1.0 / likely - 1.0)).sum(),
    )


def _leaning(xp: Any, basis: Any) -> Any:
    """Compute one number of each singular vector, by whose sign that of the vector is fixed.

    A singular vector is given up to its sign, which must not depend on rounding: one seed gives one
    result, alone and among streams, on every backend. The number is the inner product with
    ``1 / (π + i)``. As π is transcendental, the product is zero for no vector of algebraic numbers,
    such as those that sum to zero because the projections of a state are orthogonal to ``1``.
    """
    place = xp.cumsum(xp.ones_like(basis[:, 0]), 0)
    return (basis / (math.pi + place)[:, None]).sum(0)


def water_filling(xp: Any, values: Any, rank: int) -> Any:
    """Distribute k places among singular values: ``0 <= p_i <= 1`` and ``Σ p_i = k``.

    The q largest values have a place of their own, ``p_i = 1``, for the largest q with
    ``d_i (k - i + 1) >= d_i + d_{i+1} + …`` for all ``i <= q``. The others share the remaining
    places in proportion, ``p_i = (k - q) d_i / s``, where s is their sum. The variance added is
    ``Σ d_i² (1/p_i - 1) = s² / (k - q) - Σ_{i>q} d_i²``, the least of all unbiased estimates of
    rank k.

    Args:
        xp: Array functions of the framework.
        values: d, in descending order, not negative. If there are fewer than k, each has a place.
        rank: k.
    """
    ones = xp.ones_like(values)
    room = rank + 1 - xp.cumsum(ones, 0)
    rest = xp.flip(xp.cumsum(xp.flip(values, (0,)), 0), (0,))
    alone = xp.cumprod(xp.where((values * room >= rest) & (room > 0), ones, 0.0), 0)
    shared = (values * (1.0 - alone)).sum()
    left = rank - alone.sum()
    share = left * values / xp.where(shared > 0, shared, 1.0)
    return xp.where(alone > 0, ones, xp.where(share < 1.0, share, ones))


def unit_rows(xp: Any, kept: Any, rank: int) -> Any:
    """Build unit vectors ``l_i`` of k coordinates such that ``Σ p_i l_i l_iᵀ = I``.

    The construction goes through the p in turn. A vector v holds the part of the columns opened so
    far that earlier rows have not used; its square is ``r = ⌈S⌉ - S``, where S is the sum of the
    earlier p. If ``p_i <= r``, row i has the direction of v. Otherwise the next column is opened,
    and a plane rotation of v and the unit vector e of the new column gives row i and the rest:

        √p_i l_i = cos·v + sin·e,      v' = -sin·v + cos·e,      sin² = (p_i - r) / (1 - r).

    Rotations preserve the orthonormality of the columns.

    Args:
        xp: Array functions of the framework.
        kept: p, shape (m,), with ``0 <= p_i <= 1`` and ``Σ p_i = k``.
        rank: k.

    Returns:
        A matrix of shape (m, k).
    """
    until = xp.cumsum(kept, 0)
    until = xp.where(until < rank, until, rank * xp.ones_like(until))
    before = xp.concatenate([0.0 * until[:1], until[:-1]])
    opened = xp.ceil(before)
    opens = xp.ceil(until) > opened
    left = opened - before
    sine = (until - opened) / (1.0 - left)
    sine = xp.where(opens & (sine > 0), xp.where(sine < 1.0, sine, 1.0), 0.0)
    sine, cosine, length = sine**0.5, (1.0 - sine) ** 0.5, left**0.5
    of_row, of_next = (
        xp.where(opens, 1.0 / xp.where(square > 0, square, 1.0) ** 0.5, 1.0)
        for square in (sine**2 + cosine**2 * left, cosine**2 + sine**2 * left)
    )
    along = xp.where(opens, cosine * length * of_row, 1.0)
    turned = xp.where(opens, -sine * length * of_next, 1.0)
    new = xp.stack([xp.where(opens & (opened == column), 1.0, 0.0) for column in range(rank)], -1)
    entering, staying = new * (sine * of_row)[:, None], new * (cosine * of_next)[:, None]
    direction, directions = staying[0] * 0.0, []
    for i in range(len(kept)):
        directions.append(direction)
        direction = turned[i] * direction + staying[i]
    return along[:, None] * xp.stack(directions) + entering


def _identity(xp: Any, like: Any) -> Any:
    ones = xp.ones_like(like)
    index = xp.cumsum(ones, 0)
    return xp.where(index[:, None] == index[None, :], ones, 0.0)
