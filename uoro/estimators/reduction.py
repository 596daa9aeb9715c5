"""Reducing a sum of many outer products to fewer: at the least variance, without bias.

Wanted are k pairs whose expected sum is ``M = Σ a_i ⊗ b_i`` over more than k pairs. With singular
values d and singular vectors u, v of M, and any unit vectors ``l_i`` of k coordinates,

    a'_j = Σ_i σ_i l_ij √d_i u_i,      b'_j = Σ_i σ_i l_ij √d_i v_i,      j = 1 … k

are such pairs if the signs σ are fair and independent: ``E[Σ_j a'_j ⊗ b'_j] = Σ_i d_i u_i ⊗ v_i``.
What they add is a variance of ``Σ d_i d_j <l_i, l_j>²`` over i ≠ j, and it is least where
``√p_i l_i`` are the rows of a matrix with orthonormal columns, for the p of `water_filling`.

M is not looked at. Of vectors of any length all that is used is a small matrix of coordinates, its
columns the pairs': a triangular factor of the vectors themselves, or of their inner products.

Both sides come out with the same inner products, ``Σ_i d_i l_ij l_ik``.

References:
    Benzing, Gauy, Mujika, Martinsson & Steger, "Optimal Kronecker-Sum Approximation of Real Time
    Recurrent Learning", ICML 2019, arXiv:1902.03993: their optimal approximation, of a sum of any
    outer products and not of Kronecker products alone. The unit vectors are made otherwise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

FLOOR = 64
"""A pair counts as dependent on those before it where less of it is left, in units of roundoff for
each pair and of its squared length."""

FAINT = 8
"""Directions weaker than the strongest by more are rounding; in inverse units of it."""


class Side(NamedTuple):
    """One side of m pairs, ``a_1 … a_m`` or ``b_1 … b_m``.

    Attributes:
        lengths: Their norms, a vector (m,).
        root: A matrix whose columns are their directions, in coordinates for some orthonormal
            basis of their span; that of a zero vector is anything.
    """

    lengths: Any
    root: Any


class Reduction(NamedTuple):
    """How k pairs are made of m.

    Attributes:
        tangents: A matrix (k, m): its rows combine ``a_1 … a_m``.
        cotangents: A matrix (k, m): its rows combine ``b_1 … b_m``.
        added: The variance ``E ‖Σ a'_j ⊗ b'_j - M‖²`` in the Frobenius norm.
    """

    tangents: Any
    cotangents: Any
    added: Any


def side_of_gram(xp: Any, gram: Any) -> Side:
    """Make a side of the inner products of its vectors.

    The vectors are scaled to unit length first. What rounding costs then depends on the angles
    between them alone: they may be of any size, and of very different ones.

    Args:
        xp: The framework's array functions.
        gram: A matrix (m, m).
    """
    lengths = xp.sqrt(xp.diagonal(gram))
    inverse = xp.where(lengths > 0, 1.0 / xp.where(lengths > 0, lengths, 1.0), 0.0)
    unit = _identity(xp, lengths)
    cosines = xp.clip(gram * inverse[:, None] * inverse[None, :], -1.0, 1.0)
    return Side(lengths, _root(xp, xp.where(unit > 0, 1.0, cosines), unit))


def _root(xp: Any, gram: Any, unit: Any) -> Any:
    """Give an upper triangular root of a Gram matrix of unit vectors, row by row.

    It is Cholesky's, but for vectors that are those before them up to rounding: they get a row of
    their own, of what rounding may have left of them. So there is a root of inner products that are
    not quite those of any vectors, too. That, and the squared condition number, costs variance and
    no bias: for *any* invertible roots the reduction is unbiased.
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
    """Make a side of the vectors themselves, the rows of a matrix (m, n).

    Where n > m they are triangularised: unlike a root of their inner products, that does not square
    the condition number.
    """
    lengths = xp.sqrt((rows**2).sum(1))
    directions = (rows / xp.where(lengths > 0, lengths, 1.0)[:, None]).T
    m, n = rows.shape
    return Side(lengths, xp.linalg.qr(directions)[1] if n > m else directions)


def reduce_pairs(xp: Any, left: Side, right: Side, signs: Any, rank: int) -> Reduction:
    """Reduce m pairs to k at the least variance.

    Of the roots R of both sides, ``R_a diag(‖a‖ ‖b‖) R_bᵀ = X diag(d) Yᵀ`` is the singular value
    decomposition of M in their bases. Then ``√d u_i`` is ``y_iᵀ R_b / √d_i``, as weights of the
    ``a_j ‖b_j‖``, and ``√d v_i`` is ``x_iᵀ R_a / √d_i``, as weights of the ``b_j ‖a_j‖``: no root
    is inverted, no norm divided by.

    Numbers that are not finite make it all NaN.

    Args:
        xp: The framework's array functions.
        left: The side of a.
        right: The side of b.
        signs: σ, at least as many as the roots have rows, on either side.
        rank: k.
    """
    core = (left.root * (left.lengths * right.lengths)[None, :]) @ right.root.T
    sound = xp.isfinite(core.sum())
    basis, values, cobasis = xp.linalg.svd(xp.where(sound, core, 0.0), full_matrices=False)
    noise = FAINT * len(left.lengths) * xp.finfo(values.dtype).eps
    values = xp.where(values > noise * values[0], values, 0.0)
    kept = water_filling(xp, values, rank)
    seen = values > 0
    # Singular vectors have no sign of their own; one that all backends agree on makes runs alike.
    signs = xp.where(basis.sum(0) < 0, -signs[: len(values)], signs[: len(values)])
    scale = xp.where(seen, xp.where(seen, values, 1.0) ** -0.5, 0.0) * signs
    rows = (unit_rows(xp, kept, rank) * scale[:, None]).T
    rows = xp.where(sound, rows, float("nan"))
    likely = xp.where(kept > 0, kept, 1.0)
    return Reduction(
        rows @ (cobasis @ right.root * right.lengths[None, :]),
        rows @ (basis.T @ left.root * left.lengths[None, :]),
        (values**2 * (1.0 / likely - 1.0)).sum(),
    )


def water_filling(xp: Any, values: Any, rank: int) -> Any:
    """Share k places out among singular values: ``0 <= p_i <= 1`` and ``Σ p_i = k``.

    The q largest get a place of their own, ``p_i = 1``, for the largest q with
    ``d_i (k - i + 1) >= d_i + d_{i+1} + …`` for all ``i <= q``. The others share what is left in
    proportion, ``p_i = (k - q) d_i / s``, where s is their sum. With these p the variance added is
    ``Σ d_i² (1/p_i - 1) = s² / (k - q) - Σ_{i>q} d_i²``, and no unbiased estimate of that rank has
    less.

    Args:
        xp: The framework's array functions.
        values: d, largest first, not negative. If there are fewer than k, each has a place.
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
    """Make unit vectors ``l_i`` of k coordinates such that ``Σ p_i l_i l_iᵀ = I``.

    Goes through the p in turn, with a vector v that is what former rows have left over of the
    columns opened so far; its square is ``r = ⌈S⌉ - S``, for the sum S of the p until then. Where
    ``p_i <= r``, row i is of the direction of v. Where not, the next column is opened, and a plane
    rotation of v and its unit vector e makes row i of them and what is left over:

        √p_i l_i = cos·v + sin·e,      v' = -sin·v + cos·e,      sin² = (p_i - r) / (1 - r).

    Rotations keep columns orthonormal, so that they are in the end.

    Args:
        xp: The framework's array functions.
        kept: p, a vector (m,), with ``0 <= p_i <= 1`` and ``Σ p_i = k``.
        rank: k.

    Returns:
        A matrix (m, k).
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
