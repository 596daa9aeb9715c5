"""`Dynamics` of a JAX function over any pytree."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from uoro.dynamics import Outcome, Pullback
from uoro.transition import checked

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
    """

    span = 1

    def __init__(self, backend: JaxBackend, transition: Callable[..., Any], has_aux: bool) -> None:
        self.backend = backend
        self._outcome = checked(transition, backend, has_aux=has_aux)

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Take one step."""
        return self._outcome(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Push a state tangent forward."""

        def of_state(state: Any) -> tuple[Any, Any]:
            return self._outcome(params, state, inputs)[:2]

        _, pushed = jax.jvp(of_state, (state,), (state_tangent,))
        return pushed[0], pushed[1]

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Take one step, to be pulled back any number of times.

        A pullback differentiates only the outputs whose cotangent is given, so that the
        compiler sees which parameters cannot reach them: a readout costs nothing when signs
        are pulled back from the next state.
        """

        def pullback(state_cotangent: Any, loss_cotangent: Any) -> tuple[Any, Any]:
            def outputs(params: Any, state: Any) -> tuple[Any, Any]:
                outcome = self._outcome(params, state, inputs)
                return (
                    () if state_cotangent is None else outcome.next_state,
                    () if loss_cotangent is None else outcome.loss,
                )

            primal, pull = jax.vjp(outputs, params, state)
            weight = () if loss_cotangent is None else jnp.asarray(loss_cotangent, primal[1].dtype)
            pulled: tuple[Any, Any] = pull(
                (() if state_cotangent is None else state_cotangent, weight)
            )
            return pulled

        return self._outcome(params, state, inputs), pullback
