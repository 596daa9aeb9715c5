"""The gradient estimate of pairs (step 2 of Algorithm 1), for one stream and averaged over many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uoro.algebra import flatten, mix
from uoro.backend import Backend
from uoro.derivatives.sweep import mean_immediate
from uoro.dynamics import Params
from uoro.estimator import Estimate
from uoro.estimators.pair import Moment


def through_pairs(
    backend: Backend, immediate: Params, weights: Any, cotangent: Params, *, stacked: bool
) -> Params:
    """Compute ``∂ℓ/∂θ + Σ_i w_i θ̃_i``.

    Args:
        backend: Backend of all trees.
        immediate: ∂ℓ/∂θ within the step.
        weights: ∂ℓ/∂s · s̃_i times the share of each pair; a vector, or of one pair a scalar.
        cotangent: A stack of all θ̃_i, or one of them.
        stacked: Whether there is a stack.
    """
    carried = (1.0, mix(backend, weights, cotangent)) if stacked else (weights, cotangent)
    return backend.combine((1.0, immediate), carried)


def average_streams(
    advance: Callable[[Moment], tuple[Any, Any]], now: Moment, *, rank: int, averaged: int
) -> tuple[Any, Any, Estimate]:
    """Advance B streams and average their gradients, none of which is formed by itself.

    The carried parts of all gradients are one product of the weights with all B·k cotangents.

    Args:
        advance: Advances one stream. Returns the next pairs, and the sweep through the model.
        now: All fields but dynamics and params are stacks of B.
        rank: k, the number of pairs of each stream.
        averaged: How many pairs of each stream are averaged: k, or 1 if their sum is meant.
    """
    dynamics, params, *stacks = now
    carry, state, inputs, _ = stacks
    backend = dynamics.backend

    def one(*of_stream: Any) -> Any:
        pair, model = advance(Moment(dynamics, params, *of_stream))
        return pair, model.outcome, model.immediate, model.loss_tangent

    pair, outcome, each, loss_tangents = backend.vmap(one)(*stacks)
    immediate = mean_immediate(dynamics, params, state, inputs, each)
    weights = loss_tangents.reshape((-1,)) / (loss_tangents.shape[0] * averaged)
    cotangents = carry.cotangent if rank == 1 else flatten(backend, carry.cotangent)
    gradient = through_pairs(backend, immediate, weights, cotangents, stacked=True)
    return pair, outcome.next_state, Estimate(outcome.loss.mean(), gradient, outcome.aux)
