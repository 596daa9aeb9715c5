"""One estimate of rank k of the influence, carried by k pairs together."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

from uoro.algebra import as_precision, coordinates, shaped, size, take, with_gram, working_precision
from uoro.backend import Backend
from uoro.dynamics import Params, State
from uoro.estimators.projections import projections
from uoro.estimators.reduction import reduce_pairs, side_of_gram, side_of_rows
from uoro.sweep import Sweep


class JointInfluence(NamedTuple, Generic[State, Params]):
    """Estimate ``Σ_i tangent_i ⊗ cotangent_i`` of rank k of the influence: the sum, not the mean.

    Attributes:
        tangent: A stack of k, each shaped like the state; with k = 1, one of them and no stack.
        cotangent: A stack of k, each shaped like the params.
        added: The variance of the estimate that its last reduction added, a scalar.
    """

    tangent: State
    cotangent: Params
    added: Any


def fresh_projections(backend: Backend, noise: State, rank: int) -> State:
    """Make the k projections of a step of its noise: of the first of its two trees."""
    made: State = projections(backend, take(backend, noise, 0), rank)
    return made


def merge(
    backend: Backend,
    cotangent: Params,
    swept: Sweep[State, Params],
    fresh: State,
    pulled_back: State,
    noise: State,
    rank: int,
) -> JointInfluence[State, Params]:
    """Reduce ``Σ pushed_i ⊗ cotangent_i + Σ fresh_j ⊗ pulled_j`` to k pairs.

    Args:
        backend: The backend of all of them.
        cotangent: θ̃ of the k carried pairs.
        swept: What is known of the step.
        fresh: ν of the k fresh ones on the side of the state.
        pulled_back: ν that is pulled back; the same, or scaled the other way.
        noise: Two trees of signs; the second is for the reduction.
        rank: k.
    """
    xp = backend.xp
    precision = working_precision(backend, (fresh, swept.direct, cotangent))
    carried, *trees = (
        as_precision(backend, stack, precision) for stack in (cotangent, fresh, swept.pushed, noise)
    )

    def pulled() -> Any:
        return as_precision(backend, backend.vmap(swept.pull)(pulled_back, swept.kept), precision)

    products, mixed = with_gram(backend, carried, pulled)
    fresh_rows, pushed_rows, signs = (coordinates(backend, tree) for tree in trees)
    rows = xp.concatenate([pushed_rows, fresh_rows], 0)
    n = rows.shape[1]
    left = side_of_gram(xp, rows @ rows.T) if n > 2 * rank else side_of_rows(xp, rows)
    if size(backend, swept.direct) < 2 * rank:
        both = [coordinates(backend, stack) for stack in (carried, pulled())]
        right = side_of_rows(xp, xp.concatenate(both, 0))
    else:
        right = side_of_gram(xp, products)
    reduction = reduce_pairs(xp, left, right, signs[1], rank)
    merged = mixed(reduction.cotangents[:, :rank], reduction.cotangents[:, rank:])
    return JointInfluence(
        shaped(backend, reduction.tangents @ rows, take(backend, fresh, 0)),
        backend.map(lambda _, new: new, cotangent, merged),  # in its dtypes
        reduction.added,
    )
