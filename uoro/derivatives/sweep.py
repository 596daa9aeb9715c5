"""All the derivatives that one UORO step asks for, taken together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from uoro.algebra import mean
from uoro.dynamics import Dynamics, Inputs, Outcome, Params, State

Function = TypeVar("Function", bound=Callable[..., Any])
Each: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a function of one pair one of all that are carried: a map, or nothing."""


class Sweep(NamedTuple, Generic[State, Params]):
    """What is known after a pass through the model, for one pair or for a stack of them.

    Attributes:
        outcome: Next state and loss.
        immediate: ∂ℓ/∂θ, within this application alone.
        pushed: ∂F/∂s · s̃.
        loss_tangent: ∂ℓ/∂s · s̃.
        pull: Makes νᵀ ∂F/∂θ of the signs of one pair, and of what was kept of it. It is a
            function, so that a compiler need not write out what it makes.
        kept: What `pull` takes beside the signs.
    """

    outcome: Outcome[State]
    immediate: Params
    pushed: State
    loss_tangent: Any
    pull: Callable[[State, Any], Params]
    kept: Any


def once(function: Function) -> Function:
    """Leave a function as it is: there is one pair."""
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
    """Go through the model once, with a method of its own where the dynamics have one.

    Args:
        dynamics: The model.
        params: θ.
        state: s_t.
        inputs: One item of the stream.
        tangent: s̃, or a stack of them.
        signs: ν, or a stack of them.
        each: Maps over the stack, or is `once`.
    """
    own = getattr(dynamics, "sweep", None)
    if own is None:
        return separately(dynamics, params, state, inputs, tangent, signs, each)
    swept: Sweep[State, Params] = own(params, state, inputs, tangent, signs, each)
    return swept


def separately(
    dynamics: Dynamics[Params, State, Inputs],
    params: Params,
    state: State,
    inputs: Inputs,
    tangent: State,
    signs: State,
    each: Each,
) -> Sweep[State, Params]:
    """Do what `sweep` does with nothing but forward, jvp and vjp."""
    outcome, pullback = dynamics.vjp(params, state, inputs)
    immediate, _ = pullback(None, 1.0)
    pushed, loss_tangent = each(lambda one: dynamics.jvp(params, state, inputs, one))(tangent)
    return Sweep(outcome, immediate, pushed, loss_tangent, lambda nu, _: pullback(nu, None)[0], ())


def mean_direct(
    dynamics: Dynamics[Params, State, Inputs],
    params: Params,
    state: State,
    inputs: Inputs,
    each: Params,
) -> Params:
    """Average ∂ℓ/∂θ over streams, at once where the dynamics can be one of `many` streams.

    Args:
        dynamics: The model of one stream.
        params: θ, shared.
        state: A stack of states.
        inputs: A stack of items.
        each: The stack of what each stream has. A compiler drops it where it is not used.
    """
    many = getattr(dynamics, "many", None)
    if many is None:
        return mean(dynamics.backend, each)
    _, pullback = many().vjp(params, state, inputs)
    immediate: Params = pullback(None, 1.0)[0]
    return immediate
