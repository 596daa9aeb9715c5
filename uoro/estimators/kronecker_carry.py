"""What Kronecker sums carry, and how it advances by one step."""

from __future__ import annotations

from typing import Any, NamedTuple

from uoro.algebra import (
    as_precision,
    coordinates,
    flatten,
    nonzero,
    where,
    working_precision,
)
from uoro.backend import Backend
from uoro.derivatives.jacobians import Jacobians
from uoro.derivatives.structure import Kind, LeafStructure, Structure
from uoro.estimators.kronecker_pairs import Terms, fresh_terms, push_rows, reduce_all

DRAWS = 2
"""Number of sign vectors for each state coordinate; each leaf takes one vector for itself."""


class KroneckerInfluence(NamedTuple):
    """Estimate of the influence ∂s/∂θ, leaf by leaf; dicts by the names of the leaves.

    Attributes:
        terms: Leaves that are carried as ``Σ_ρ A_ρ ⊗ u_ρ``; those that share D under the name of
            the first.
        exact: Leaves whose influence is carried as it is: n rows shaped like the leaf.
        rest: Carries of the estimator of the rest, one for each leaf without structure.
        added: Variance that the last reduction added, a scalar.
    """

    terms: dict[str, Terms]
    exact: dict[str, Any]
    rest: dict[str, Any]
    added: Any


class KroneckerSigns(NamedTuple):
    """The random signs of a step.

    Attributes:
        terms: Two stacks of r + 2 trees of signs, each shaped like the state.
        rest: Signs of the estimator of the rest; otherwise empty.
    """

    terms: Any
    rest: Any


def no_terms(
    backend: Backend, leaves: dict[str, Any], site: list[LeafStructure], n: int, rank: int
) -> Terms:
    """Return r terms of zero.

    Args:
        backend: Backend of all arrays.
        leaves: The params, by name.
        site: Structure of a leaf, or of those that share D.
        n: Number of state coordinates.
        rank: r.
    """

    def along(leaf: LeafStructure, inputs: bool) -> Any:
        axes = range(len(leaf.shape))
        own = tuple(slice(None if (i in leaf.inputs) is inputs else 1) for i in axes)
        return leaves[leaf.name][own]

    left = backend.zeros(along(site[0], False).reshape(-1), batch=(n,))
    right = {leaf.name: backend.zeros(along(leaf, True).real) for leaf in site}
    return Terms((left,) * rank, (right,) * rank)


def structure_of(backend: Backend, params: Any, carry: KroneckerInfluence) -> Structure:
    """Return the structure that a carry was made for."""
    found: list[LeafStructure] = []  # list[LeafStructure]() is no call that torch.compile follows
    pieces: dict[str, Any] = {}
    for terms in carry.terms.values():
        pieces.update(terms.right[0])
    for name, leaf in backend.named_leaves(params):
        kind: Kind = "none"
        inputs: tuple[int, ...] = ()
        if name in pieces:
            inputs = tuple(i for i, size in enumerate(pieces[name].shape) if size > 1)
            kind = "outer" if inputs else "exact"
        elif name in carry.exact:
            kind = "exact"
        elif name in carry.rest:
            kind = "dense"
        found.append(LeafStructure(name, tuple(leaf.shape), kind, inputs))
    groups = [tuple(each.right[0]) for each in carry.terms.values() if len(each.right[0]) > 1]
    return Structure(tuple(found), tuple(groups))


def influenced(backend: Backend, carry: KroneckerInfluence) -> Any:
    """Return whether what is carried moves each coordinate of the state, as a mask for `where`."""
    return nonzero(backend, [[each.left for each in carry.terms.values()], carry.exact])


def advance_influence(
    backend: Backend,
    structure: Structure,
    model: Jacobians,
    carry: KroneckerInfluence,
    signs: Any,
    rank: int,
) -> KroneckerInfluence:
    """Push what is carried, add the immediate Jacobian, and reduce the terms to r."""
    precision = working_precision(backend, carry.added)
    # A coordinate without influence passes none on, even where its derivative is infinite.
    jacobian = where(backend, influenced(backend, carry), model.state.T).T
    pairs = zip(structure, model.params, strict=True)
    fresh: dict[str, Any] = {leaf.name: immediate for leaf, immediate in pairs}
    terms: dict[str, Terms] = {}
    for name, site in carry.terms.items():
        made = fresh_terms(backend, {member: fresh[member] for member in site.right[0]})
        carried, made = as_precision(backend, (site, made), precision)
        pushed = tuple(push_rows(backend, jacobian, rows) for rows in carried.left)
        terms[name] = Terms(pushed + made.left, carried.right + made.right)
    exact = {
        name: push_rows(backend, jacobian, rows) + fresh[name].left
        for name, rows in carry.exact.items()
    }
    drawn = site_signs(backend, signs, len(terms))
    reduced, added = reduce_all(backend, list(terms.values()), drawn, rank)
    kept = dict(zip(terms, reduced, strict=True))

    def stored(before: Any, after: Any) -> Any:
        return backend.map(lambda _, new: new, before, after)  # In the dtypes of the carry.

    return KroneckerInfluence(
        {name: stored(carry.terms[name], after) for name, after in kept.items()},
        {name: stored(carry.exact[name], after) for name, after in exact.items()},
        {},
        0.0 * carry.added + added,
    )


def site_signs(backend: Backend, signs: Any, sites: int) -> Any:
    """Return a vector of signs for each site, independent if there are at most 2 n of them.

    Further ones are products of several vectors: independent in pairs.

    Args:
        backend: Backend of the signs.
        signs: Two stacks of trees of signs, each shaped like the state.
        sites: Number of vectors.
    """
    rows = coordinates(backend, flatten(backend, signs))
    columns = rows.reshape((DRAWS, -1, rows.shape[1]))
    vectors = [columns[i, :, j] for j in range(rows.shape[1]) for i in range(DRAWS)]
    if sites <= len(vectors):
        return vectors[:sites]
    products: list[Any] = []
    for number in range(sites):
        code, product = number % (2 ** len(vectors) - 1) + 1, 1.0
        for bit, vector in enumerate(vectors):
            if code >> bit & 1:
                product = product * vector
        products.append(product)
    return products
