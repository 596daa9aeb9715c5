"""One estimate of rank k of the influence, carried by k pairs together."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

from uoro.algebra import coordinates, gram, mix, shaped, take, working_precision
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
    noise: State,
    rank: int,
) -> JointInfluence[State, Params]:
    """Reduce ``Σ pushed_i ⊗ cotangent_i + Σ fresh_j ⊗ pulled_j`` to k pairs.

    Args:
        backend: The backend of all of them.
        cotangent: θ̃ of the k carried pairs.
        swept: What is known of the step.
        fresh: ν of the k fresh ones.
        noise: Two trees of signs; the second is for the reduction.
        rank: k.
    """
    xp = backend.xp
    pulled = backend.vmap(swept.pull)(fresh, swept.kept)
    precision = working_precision(backend, (fresh, pulled, cotangent))
    pulled, cotangent, *trees = (
        backend.from_host(stack, dtype=precision)
        for stack in (pulled, cotangent, fresh, swept.pushed, noise)
    )
    fresh_rows, carried_rows, signs = (coordinates(backend, tree) for tree in trees)
    rows = xp.concatenate([fresh_rows, carried_rows], 0)
    n = rows.shape[1]
    left = side_of_gram(xp, rows @ rows.T) if n > 2 * rank else side_of_rows(xp, rows)
    right = side_of_gram(xp, _gram_of_both(backend, pulled, cotangent))
    reduction = reduce_pairs(xp, left, right, signs[1], rank)
    of_fresh, of_carried = reduction.cotangents[:, :rank], reduction.cotangents[:, rank:]
    return JointInfluence(
        shaped(backend, reduction.tangents @ rows, take(backend, fresh, 0)),
        backend.combine(
            (1.0, mix(backend, of_carried, cotangent)), (1.0, mix(backend, of_fresh, pulled))
        ),
        reduction.added,
    )


def _gram_of_both(backend: Backend, one: Any, other: Any) -> Any:
    """Give the inner products of all entries of two stacks, without making them one."""
    across = gram(backend, one, other)
    upper = [gram(backend, one, one), across]
    lower = [across.T, gram(backend, other, other)]
    concatenate = backend.xp.concatenate
    return concatenate([concatenate(upper, 1), concatenate(lower, 1)], 0)
