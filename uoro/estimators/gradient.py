"""The gradient estimate of pairs (step 2 of Algorithm 1), for one stream and summed over many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uoro.algebra import flatten, mix
from uoro.backend import Backend
from uoro.derivatives.many import many
from uoro.derivatives.sweep import rates
from uoro.dynamics import Outcome, Params
from uoro.estimators.pair import Moment
from uoro.prediction import Prediction


def through_pairs(
    backend: Backend, immediate: Params, weights: Any, cotangent: Params, *, stacked: bool
) -> Params:
    """Compute ``(∂o/∂θ)ᵀ ō + Σ_i w_i θ̃_i``.

    Args:
        backend: Backend of all trees.
        immediate: The gradient within the step.
        weights: <ō, ∂o/∂s · s̃_i> times the share of each pair; a vector, or of one pair a scalar.
        cotangent: A stack of all θ̃_i, or one of them.
        stacked: Whether there is a stack.
    """
    carried = (1.0, mix(backend, weights, cotangent)) if stacked else (weights, cotangent)
    return backend.combine((1.0, immediate), carried)


def advance_streams(
    advance: Callable[[Moment], tuple[Any, Any]], now: Moment, *, rank: int, averaged: int
) -> tuple[Any, Any, Prediction]:
    """Advance B streams, whose gradients are summed and none of which is formed by itself.

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
        return pair, model.outcome, model.output_tangent

    pair, outcome, tangents = backend.vmap(one)(*stacks)

    def gradient(cotangent: Any) -> Any:
        immediate, _ = many(dynamics).vjp(params, state, inputs)[1](None, cotangent)
        each = backend.vmap(lambda t, c: rates(backend, t, c, stacked=rank > 1))
        weights = each(tangents, cotangent).reshape((-1,)) / averaged
        cotangents = carry.cotangent if rank == 1 else flatten(backend, carry.cotangent)
        return through_pairs(backend, immediate, weights, cotangents, stacked=True)

    return pair, outcome.next_state, Prediction(backend, Outcome(*outcome), gradient)
