"""One estimate of rank k of the influence, carried by k pairs together."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

from uoro.algebra import (
    as_precision,
    coordinates,
    entry,
    shaped,
    size,
    with_products,
    working_precision,
)
from uoro.backend import Backend
from uoro.derivatives.sweep import Sweep
from uoro.dynamics import Params, State
from uoro.estimators.projections import projections
from uoro.estimators.reduction import reduce_pairs, side_of_gram, side_of_rows


class JointInfluence(NamedTuple, Generic[State, Params]):
    """Estimate ``Σ_i tangent_i ⊗ cotangent_i`` of rank k of the influence: the sum, not the mean.

    All tangents have the same inner products with each other as the cotangents of these pairs have:
    zeros do, a reduction leaves it so, and the next one takes it to be so. Of pairs that someone
    made otherwise the next steps are unbiased too, but noisier than they need be, and than they
    report; who scales pairs should scale both sides by the same.

    Attributes:
        tangent: A stack of k, each shaped like the state; with k = 1, one of them and no stack.
        cotangent: A stack of k, each shaped like the params.
        added: The variance of the estimate that its last reduction added, a scalar.
    """

    tangent: State
    cotangent: Params
    added: Any


def fresh_projections(backend: Backend, drawn: State, rank: int) -> State:
    """Make the k projections of a step of its noise: of the first of its two trees."""
    made: State = projections(backend, entry(backend, drawn, 0), rank)
    return made


def merge(
    backend: Backend,
    tangent: State,
    cotangent: Params,
    swept: Sweep[State, Params],
    fresh: State,
    pulled_back: State,
    drawn: State,
    rank: int,
) -> JointInfluence[State, Params]:
    """Reduce ``Σ pushed_i ⊗ cotangent_i + Σ fresh_j ⊗ pulled_j`` to k pairs.

    Args:
        backend: The backend of all of them.
        tangent: s̃ of the k carried pairs, as they were before they were pushed.
        cotangent: θ̃ of these pairs.
        swept: What is known of the step.
        fresh: ν of the k fresh ones on the side of the state.
        pulled_back: ν that is pulled back; the same, or scaled the other way.
        drawn: Two trees of signs; the second is for the reduction.
        rank: k.
    """
    xp = backend.xp
    precision = working_precision(backend, (fresh, swept.immediate, cotangent))
    carried, *trees = (
        as_precision(backend, stack, precision)
        for stack in (cotangent, tangent, swept.pushed, fresh, drawn)
    )

    def pulled() -> Any:
        return as_precision(backend, backend.vmap(swept.pull)(pulled_back, swept.kept), precision)

    across, own, mixed = with_products(backend, carried, pulled)
    before, pushed, added, signs = (coordinates(backend, tree) for tree in trees)
    rows = xp.concatenate([pushed, added], 0)
    if size(backend, swept.immediate) < 2 * rank:
        both = [coordinates(backend, stack) for stack in (carried, pulled())]
        right = side_of_rows(xp, xp.concatenate(both, 0))
    else:
        # What is carried is as large as the params; its inner products are those of the tangents.
        upper, lower = [before @ before.T, across], [across.T, own]
        products = xp.concatenate([xp.concatenate(each, 1) for each in (upper, lower)], 0)
        right = side_of_gram(xp, products)
    reduction = reduce_pairs(xp, side_of_rows(xp, rows), right, signs[1], rank)
    merged = mixed(reduction.cotangents[:, :rank], reduction.cotangents[:, rank:])
    return JointInfluence(
        shaped(backend, reduction.tangents @ rows, entry(backend, fresh, 0)),
        backend.map(lambda _, new: new, cotangent, merged),  # in its dtypes
        reduction.added,
    )
