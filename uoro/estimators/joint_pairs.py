"""Joint pairs, whose sum estimates the influence, and how 2k of them reduce to k."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

from uoro.algebra import (
    as_precision,
    coordinates,
    entry,
    in_full,
    shaped,
    size,
    with_products,
    working_precision,
)
from uoro.backend import Backend, Coarsens
from uoro.dynamics import Params, State, Sweep
from uoro.estimators.projections import projections
from uoro.estimators.reduction import reduce_pairs, side_of_gram, side_of_rows


class JointInfluence(NamedTuple, Generic[State, Params]):
    """Estimate ``Σ_i tangent_i ⊗ cotangent_i`` of the influence: the sum of k pairs, not the mean.

    The tangents have the same inner products with each other as the cotangents. Zero pairs do,
    every reduction preserves it, and the next reduction relies on it. Other pairs remain unbiased,
    with more variance than necessary and than ``added`` reports; whoever scales pairs scales both
    sides by the same factor.

    Attributes:
        tangent: A stack of k trees shaped like the state; with k = 1 one tree and no stack.
        cotangent: A stack of k trees shaped like the params; with k = 1 one tree and no stack.
        added: Variance that the last reduction added, a scalar.
    """

    tangent: State
    cotangent: Params
    added: Any


class Fresh(NamedTuple, Generic[State]):
    """What a reduction needs besides the sweep.

    Attributes:
        added: The k projections ν_j as they join the tangents.
        pulled: The k projections as they are pulled back; the same, unless they are scaled.
        drawn: Two trees of signs.
    """

    added: State
    pulled: State
    drawn: State


def project(backend: Backend, drawn: State, rank: int) -> State:
    """Return the k projections of a step, made of the first of its two trees of signs."""
    made: State = projections(backend, entry(backend, drawn, 0), rank)
    return made


def reduce(
    backend: Backend,
    params: Params,
    tangent: State,
    cotangent: Params,
    model: Sweep[State, Params],
    fresh: Fresh[State],
    rank: int,
) -> JointInfluence[State, Params]:
    """Reduce ``Σ_i s̃'_i ⊗ θ̃_i + Σ_j ν_j ⊗ θ̃'_j`` to k pairs.

    Args:
        backend: Backend of all trees.
        params: θ.
        tangent: A stack of the k carried s̃, from before the step.
        cotangent: A stack of the k carried θ̃.
        model: The sweep through the model.
        fresh: The projections, and the signs.
        rank: k.
    """
    xp = backend.xp
    precision = working_precision(backend, (fresh.added, params, cotangent))
    carried, *trees = (
        as_precision(backend, stack, precision)
        for stack in (cotangent, tangent, model.pushed, fresh.added, fresh.drawn)
    )

    def pulled() -> Any:
        each = backend.vmap(model.pull)(fresh.pulled, model.kept)
        return as_precision(backend, each, precision)

    # The model is pulled through in its own dtype, and pairs are reduced in theirs.
    made = pulled() if isinstance(backend, Coarsens) else None
    make = pulled if made is None else lambda: made
    with in_full(backend):
        across, own, mixed = with_products(backend, carried, make)
        before, pushed, added, signs = (coordinates(backend, tree) for tree in trees)
        rows = xp.concatenate([pushed, added], 0)
        if size(backend, params) < 2 * rank:
            both = [coordinates(backend, stack) for stack in (carried, make())]
            right = side_of_rows(xp, xp.concatenate(both, 0))
        else:
            # θ̃ is as large as the params; its inner products are those of s̃, which is small.
            upper, lower = [before @ before.T, across], [across.T, own]
            products = xp.concatenate([xp.concatenate(each, 1) for each in (upper, lower)], 0)
            right = side_of_gram(xp, products)
        reduction = reduce_pairs(xp, side_of_rows(xp, rows), right, signs[1], rank)
        merged = mixed(reduction.cotangents[:, :rank], reduction.cotangents[:, rank:])
        return JointInfluence(
            shaped(backend, reduction.tangents @ rows, entry(backend, fresh.added, 0)),
            backend.map(lambda _, new: new, cotangent, merged),  # in its dtypes
            reduction.added,
        )
