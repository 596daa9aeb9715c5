"""Kronecker sums: how r terms and the fresh ones of a step reduce to r, for all leaves at once.

The influence of one weight matrix on the state is carried as ``Σ_ρ A_ρ ⊗ u_ρ``. A step pushes each
A_ρ through the Jacobian of the state, J, and adds D ⊗ a. `uoro.estimators.reduction` then turns the
r + 1 terms into r, without bias and with the least variance. Leaves never mix.

Terms whose leaf is complex have a complex A and a real u; ``D ⊗ a`` is then the sum of the two
terms ``D ⊗ Re a`` and ``i D ⊗ Im a``. Inner products are over coordinates.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from uoro.backend import Backend
from uoro.derivatives.jacobians import Immediate
from uoro.estimators.reduction import reduce_pairs, side_of_gram


class Terms(NamedTuple):
    """The terms of one leaf, ``Σ_ρ A_ρ ⊗ u_ρ``.

    The arrays of the terms are apart, and no stack of them: a compiler then reads and writes each
    of them once a step.

    Attributes:
        left: r arrays A_ρ, shape (n, …): rows shaped like the leaf, with ones in place of the axes
            of u.
        right: r arrays u_ρ, shaped like the leaf, with ones in place of the axes of A.
    """

    left: tuple[Any, ...]
    right: tuple[Any, ...]


def fresh_terms(backend: Backend, fresh: Immediate) -> Terms:
    """Return ``D ⊗ a`` as one term or, of a complex leaf, as two."""
    d, a = fresh
    if backend.parts(d) == 2:
        return Terms((d, 1j * d), (a.real, a.imag))
    return Terms((d,), (a,))


def push_rows(backend: Backend, jacobian: Any, rows: Any) -> Any:
    """Multiply J, shape (n, n), with n rows of any shape."""
    flat = rows.reshape((rows.shape[0], -1))
    if backend.parts(rows) == 2:
        flat = jacobian @ flat.real + 1j * (jacobian @ flat.imag)
    else:
        flat = jacobian @ flat
    return flat.reshape(tuple(rows.shape))


def weigh_rows(weights: Any, rows: Any) -> Any:
    """Compute the sum over n rows of any shape, each times its weight."""
    flat = rows.reshape((rows.shape[0], -1))
    return (weights[:, None] * flat).sum(0).reshape(tuple(rows.shape[1:]))


def gradient_of(weights: Any, terms: Terms) -> Any:
    """Compute ``Σ_ρ (c A_ρ) ⊗ u_ρ``, the gradient of one leaf, for a cotangent c of the state."""
    each = [weigh_rows(weights, a) * u for a, u in zip(*terms, strict=True)]
    return sum(each[1:], each[0])


def multiplied_out(terms: Terms) -> Any:
    """Return ``Σ_ρ A_ρ ⊗ u_ρ``: n rows, each shaped like the leaf."""
    each = [a * u[None] for a, u in zip(*terms, strict=True)]
    return sum(each[1:], each[0])


def reduce_all(
    backend: Backend, terms: list[Terms], signs: list[Any], rank: int
) -> tuple[list[Terms], Any]:
    """Reduce the terms of each leaf to r.

    Args:
        backend: Backend of all arrays.
        terms: The terms of each leaf, r + 1 or, of complex leaves, r + 2.
        signs: σ, a vector of at least that many for each leaf.
        rank: r.

    Returns:
        The r terms of each leaf, and the variance that all reductions have added.
    """
    xp = backend.xp
    reduced: dict[int, Terms] = {}
    added = 0.0
    counts = [len(each.right) for each in terms]
    for count in sorted(set(counts)):
        group = [i for i, each in enumerate(counts) if each == count]
        lefts, rights, variances = backend.vmap(partial(_weights, xp, rank))(
            xp.stack([gram_of(backend, terms[i].left) for i in group]),
            xp.stack([gram_of(backend, terms[i].right) for i in group]),
            xp.stack([signs[i][:count] for i in group]),
        )
        added = added + variances.sum()
        for place, i in enumerate(group):
            reduced[i] = Terms(
                _mixed(lefts[place], terms[i].left), _mixed(rights[place], terms[i].right)
            )
    return [reduced[i] for i in range(len(terms))], added


def _weights(xp: Any, rank: int, left: Any, right: Any, signs: Any) -> tuple[Any, Any, Any]:
    """Compute the weights that reduce one leaf, from the inner products on both sides."""
    found = reduce_pairs(xp, side_of_gram(xp, left), side_of_gram(xp, right), signs, rank)
    return found.tangents, found.cotangents, found.added


def gram_of(backend: Backend, arrays: tuple[Any, ...]) -> Any:
    """Compute the matrix of inner products of arrays of one shape, over coordinates."""
    xp = backend.xp
    rows: list[list[Any]] = []
    for i, one in enumerate(arrays):
        rows.append([rows[j][i] for j in range(i)])
        rows[i] += [_inner(backend, one, other) for other in arrays[i:]]
    return xp.stack([xp.stack(row) for row in rows])


def _inner(backend: Backend, one: Any, other: Any) -> Any:
    if backend.parts(one) == 2:
        products = one.real * other.real + one.imag * other.imag
    else:
        products = one * other
    # A sum over rows first: a compiler for CPUs adds rows by vectors, and a row number by number.
    return products.reshape((products.shape[0], -1)).sum(0).sum()


def _mixed(weights: Any, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Combine arrays, by sums of few that a compiler computes in one pass."""
    return tuple(
        sum(
            (weights[row, i] * arrays[i] for i in range(1, len(arrays))),
            weights[row, 0] * arrays[0],
        )
        for row in range(weights.shape[0])
    )
