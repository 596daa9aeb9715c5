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
    """The terms of one leaf, or of several leaves that share D: ``Σ_ρ A_ρ ⊗ u_ρ``.

    The arrays of the terms are apart, and no stack of them: a compiler then reads and writes each
    of them once a step.

    Attributes:
        left: r matrices A_ρ, shape (n, m).
        right: r vectors u_ρ, in pieces by the names of the leaves: each is shaped like the leaf,
            with ones in place of the axes of A.
    """

    left: tuple[Any, ...]
    right: tuple[dict[str, Any], ...]


def fresh_terms(backend: Backend, fresh: dict[str, Immediate]) -> Terms:
    """Return ``D ⊗ a`` as one term or, of a complex leaf, as two; D is that of the first leaf."""
    d = next(iter(fresh.values())).left
    d = d.reshape((d.shape[0], -1))
    right = {name: each.right for name, each in fresh.items()}
    if backend.parts(d) == 1:
        return Terms((d,), (right,))
    parts = [{name: getattr(a, part) for name, a in right.items()} for part in ("real", "imag")]
    return Terms((d, 1j * d), tuple(parts))


def terms_of(terms: dict[str, Terms], name: str, shape: tuple[int, ...]) -> Terms | None:
    """Return the terms of one leaf, whichever leaves it shares D with; ``None`` if it has none.

    Args:
        terms: Terms, as in `KroneckerInfluence.terms`.
        name: Name of the leaf.
        shape: Shape of the leaf.

    Returns:
        Terms with rows of A shaped like the leaf, with ones in place of the axes of u.
    """
    for left, right in terms.values():
        if name in right[0]:
            inputs = right[0][name].shape
            rows = [1 if own > 1 else size for own, size in zip(inputs, shape, strict=True)]
            shaped = tuple(a.reshape((a.shape[0], *rows)) for a in left)
            return Terms(shaped, tuple({name: u[name]} for u in right))
    return None


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
    """Compute ``Σ_ρ (c A_ρ) ⊗ u_ρ`` from the `terms_of` a leaf, for a cotangent c of the state."""
    each = [weigh_rows(weights, a) * _only(u) for a, u in zip(*terms, strict=True)]
    return sum(each[1:], each[0])


def multiplied_out(terms: Terms) -> Any:
    """Return ``Σ_ρ A_ρ ⊗ u_ρ`` from the `terms_of` a leaf: n rows, each shaped like the leaf."""
    each = [a * _only(u)[None] for a, u in zip(*terms, strict=True)]
    return sum(each[1:], each[0])


def _only(right: dict[str, Any]) -> Any:
    (u,) = right.values()
    return u


def reduce_all(
    backend: Backend, terms: list[Terms], signs: list[Any], rank: int
) -> tuple[list[Terms], Any]:
    """Reduce the terms of each site to r.

    Args:
        backend: Backend of all arrays.
        terms: The terms of each site, a leaf or leaves that share D: r + 1, of complex leaves
            r + 2.
        signs: σ, a vector of at least that many for each site.
        rank: r.

    Returns:
        The r terms of each site, and the variance that all reductions have added.
    """
    xp = backend.xp
    reduced: dict[int, Terms] = {}
    added = 0.0
    counts = [len(each.right) for each in terms]
    for count in sorted(set(counts)):
        group = [i for i, each in enumerate(counts) if each == count]
        lefts, rights, variances = backend.vmap(partial(_weights, xp, rank))(
            xp.stack([gram_of(backend, terms[i].left) for i in group]),
            xp.stack([gram_of_pieces(backend, terms[i].right) for i in group]),
            xp.stack([signs[i][:count] for i in group]),
        )
        added = added + variances.sum()
        for place, i in enumerate(group):
            pieces = {
                name: _mixed(rights[place], tuple(right[name] for right in terms[i].right))
                for name in terms[i].right[0]
            }
            right = tuple({name: mixed[j] for name, mixed in pieces.items()} for j in range(rank))
            reduced[i] = Terms(_mixed(lefts[place], terms[i].left), right)
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


def gram_of_pieces(backend: Backend, vectors: tuple[dict[str, Any], ...]) -> Any:
    """Compute the matrix of inner products of vectors that are given in pieces."""
    each = [gram_of(backend, tuple(vector[name] for vector in vectors)) for name in vectors[0]]
    return sum(each[1:], each[0])


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
