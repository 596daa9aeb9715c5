"""The gradient estimate of pairs (step 2 of Algorithm 1), for one stream and summed over many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from uoro.algebra import flatten, mix, total
from uoro.backend import Backend
from uoro.derivatives.many import many
from uoro.derivatives.sweep import rates
from uoro.dynamics import Dynamics, Outcome, Params
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


def through_all_pairs(
    backend: Backend, immediate: Params, weights: Any, cotangent: Params, rank: int
) -> Params:
    """Add what goes through the pairs of all streams, by one product of weights and cotangents.

    Args:
        backend: Backend of all trees.
        immediate: The gradient within the step, summed over streams.
        weights: As in `through_pairs`, of all pairs of all streams, a vector.
        cotangent: For each stream its θ̃, or its stack of k.
        rank: k.
    """
    cotangents = cotangent if rank == 1 else flatten(backend, cotangent)
    return through_pairs(backend, immediate, weights, cotangents, stacked=True)


def gradient_of_streams(
    dynamics: Dynamics[Any, Any, Any], params: Params, given: Late, *, rank: int, averaged: int
) -> Params:
    """Compute the sum of the gradients of B streams, from what their step received.

    Args:
        dynamics: Model of one stream.
        params: Parameters.
        given: All fields are stacks of B.
        rank: k, the number of pairs of each stream.
        averaged: As in `advance_streams`.
    """
    backend = dynamics.backend
    _, pullback = many(dynamics).vjp(params, given.state, given.inputs)
    immediate, rows = pullback(None, given.of_output)
    each = backend.vmap(lambda t, c: rates(backend, t, c, stacked=rank > 1))
    weights = each(given.tangent, rows).reshape((-1,)) / averaged
    whole: Params = through_all_pairs(backend, immediate, weights, given.cotangent, rank)
    return whole


class Late(NamedTuple):
    """What a gradient is computed from that is asked for after the step.

    Attributes:
        tangent: s̃ of the pairs.
        cotangent: θ̃ of the pairs.
        state: State before the step.
        inputs: Item of the step.
        of_output: Cotangent of the output.
    """

    tangent: Any
    cotangent: Any
    state: Any
    inputs: Any
    of_output: Any


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
        return through_all_pairs(backend, immediate, weights, carry.cotangent, rank)

    return pair, outcome.next_state, Prediction(backend, Outcome(*outcome), gradient)


def advance_each(
    estimator: Any, dynamics: Any, params: Any, *stacks: Any
) -> tuple[Any, Any, Prediction]:
    """Advance B streams by the estimator of one stream, and sum their gradients.

    Args:
        estimator: Estimator of one stream.
        dynamics: Model of one stream.
        params: Parameters, shared.
        stacks: Stacks of carries, states, items and signs.
    """
    backend = dynamics.backend

    def one(*of_stream: Any) -> Any:
        *after, made = estimator.advance(dynamics, params, *of_stream)
        return *after, (made.output, made.aux)

    carry, state, made = backend.vmap(one)(*stacks)

    def gradient(cotangent: Any) -> Any:
        return gradient_of_each(estimator, dynamics, params, *stacks[:3], cotangent)

    return carry, state, Prediction(backend, Outcome(state, *made), gradient)


def gradient_of_each(estimator: Any, dynamics: Any, params: Any, *stacks: Any) -> Any:
    """Sum the gradients of B streams, each computed by itself from what its step received.

    Args:
        estimator: Estimator of one stream.
        dynamics: Model of one stream.
        params: Parameters, shared.
        stacks: Stacks of carries, states and items before the step, and of cotangents.
    """
    each = dynamics.backend.vmap(lambda *one: estimator.gradient(dynamics, params, *one))
    return total(dynamics.backend, each(*stacks))
