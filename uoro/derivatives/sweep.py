"""All derivatives of one UORO step, computed together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from uoro.algebra import mean
from uoro.dynamics import Batched, Dynamics, Each, Inputs, Params, State, Sweep, Sweeping

Function = TypeVar("Function", bound=Callable[..., Any])


def once(function: Function) -> Function:
    """Return a function unchanged: the map over a single pair."""
    return function


def sweep(
    dynamics: Dynamics[Params, State, Inputs],
    params: Params,
    state: State,
    inputs: Inputs,
    tangent: State,
    signs: State,
    each: Each,
) -> Sweep[State, Params]:
    """Compute all derivatives of a UORO step, by the dynamics' own method if they have one.

    Args:
        dynamics: The model.
        params: θ.
        state: s_t.
        inputs: One item of the stream.
        tangent: s̃, or a stack with one s̃ per pair.
        signs: ν, or a stack with one ν per pair.
        each: The map over pairs; `once` for a single pair.
    """
    return sweep_of(dynamics)(params, state, inputs, tangent, signs, each)


def sweep_of(dynamics: Dynamics[Any, Any, Any]) -> Callable[..., Sweep[Any, Any]]:
    """Return the `sweep` of dynamics: their own method, or `separately` applied to them."""
    return dynamics.sweep if isinstance(dynamics, Sweeping) else partial(separately, dynamics)


def separately(
    dynamics: Dynamics[Params, State, Inputs],
    params: Params,
    state: State,
    inputs: Inputs,
    tangent: State,
    signs: State,
    each: Each,
) -> Sweep[State, Params]:
    """Compute all derivatives of a UORO step by forward, JVP and VJP alone; see `sweep`."""
    outcome, pullback = dynamics.vjp(params, state, inputs)
    immediate, _ = pullback(None, 1.0)
    pushed, loss_tangent = each(lambda one: dynamics.jvp(params, state, inputs, one))(tangent)
    return Sweep(outcome, immediate, pushed, loss_tangent, lambda nu, _: pullback(nu, None)[0], ())


def mean_immediate(
    dynamics: Dynamics[Params, State, Inputs],
    params: Params,
    state: State,
    inputs: Inputs,
    each: Params,
) -> Params:
    """Compute the mean of ∂ℓ/∂θ over streams, in one VJP if the dynamics are `Batched`.

    Args:
        dynamics: The model of one stream.
        params: θ, shared by the streams.
        state: A stack with one state per stream.
        inputs: A stack with one item per stream.
        each: A stack with one gradient per stream; a compiler drops it where it is not used.
    """
    together = dynamics.many() if isinstance(dynamics, Batched) else None
    if together is None:
        return mean(dynamics.backend, each)
    _, pullback = together.vjp(params, state, inputs)
    immediate: Params = pullback(None, 1.0)[0]
    return immediate
