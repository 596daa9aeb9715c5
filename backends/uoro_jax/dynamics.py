"""`Dynamics` of a JAX function over any pytree."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from uoro.derivatives.transition import checked
from uoro.dynamics import Outcome, Pullback
from uoro_jax.trees import conjugate, join, like, moving

if TYPE_CHECKING:
    from uoro_jax.backend import JaxBackend


class JaxDynamics:
    """Forward, jvp and vjp by JAX's own transformations.

    Everything is a pure function of its arguments, to be traced under the user's `jit`, `vmap`
    or `scan`. The several forward passes written here are one after compilation.

    Args:
        backend: The backend of the arrays.
        transition: ``(params, state, inputs) -> (next_state, loss)``.
        has_aux: Whether it returns a third element.
        twice: Whether the jvp is the vjp of the vjp, and not forward mode.
    """

    span = 1

    def __init__(
        self,
        backend: JaxBackend,
        transition: Callable[..., Any],
        has_aux: bool,
        twice: bool = False,
    ) -> None:
        self.backend = backend
        self._transition, self._has_aux, self._twice = transition, has_aux, twice
        self._push = _push_twice if twice else _push_forward
        self._outcome = checked(transition, backend, has_aux=has_aux)

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Take one step."""
        return self._outcome(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Push a state tangent forward."""

        def of_state(moved: Any) -> tuple[Any, Any]:
            outcome = self._outcome(params, join(state, moved), inputs)
            return like(state, outcome.next_state), outcome.loss

        pushed, loss_tangent = self._push(of_state, moving(state), state_tangent)
        return pushed, loss_tangent

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Take one step, to be pulled back any number of times.

        A pullback differentiates only the outputs whose cotangent is given, so that the
        compiler sees which parameters cannot reach them: a readout costs nothing when signs
        are pulled back from the next state.
        """

        def pullback(state_cotangent: Any, loss_cotangent: Any) -> tuple[Any, Any]:
            def outputs(params: Any, moved: Any) -> tuple[Any, Any]:
                outcome = self._outcome(params, join(state, moved), inputs)
                return (
                    () if state_cotangent is None else like(state, outcome.next_state),
                    () if loss_cotangent is None else outcome.loss,
                )

            primal, pull = jax.vjp(outputs, params, moving(state))
            weight = () if loss_cotangent is None else jnp.asarray(loss_cotangent, primal[1].dtype)
            given = () if state_cotangent is None else conjugate(state_cotangent)
            by_params, by_state = conjugate(pull((given, weight)))
            return by_params, by_state

        return self._outcome(params, state, inputs), pullback

    def many(self) -> JaxDynamics:
        """Make one dynamics of many streams: state and inputs are stacks, the loss is the mean.

        What its pullback gives the params is the sum over streams as one product, and no
        stream's share is written out.
        """

        def together(params: Any, state: Any, inputs: Any) -> tuple[Any, ...]:
            step = jax.vmap(self._transition, (None, 0, 0))
            next_state, losses, *aux = step(params, state, inputs)
            return (next_state, losses.mean(), *aux)

        return JaxDynamics(self.backend, together, self._has_aux, self._twice)


def _push_forward(function: Callable[[Any], Any], at: Any, tangent: Any) -> Any:
    """Push by forward mode."""
    return jax.jvp(function, (at,), (tangent,))[1]


def _push_twice(function: Callable[[Any], Any], at: Any, tangent: Any) -> Any:
    """Push as the vjp, in its cotangent, of the vjp."""
    value, pull = jax.vjp(function, at)
    _, push = jax.vjp(lambda given: conjugate(pull(conjugate(given))), value)
    (pushed,) = push((conjugate(tangent),))
    return conjugate(pushed)
