"""`Dynamics` of a JAX function of pytrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from uoro.backend import Backend
from uoro.derivatives.transition import checked
from uoro.dynamics import Outcome, Pullback
from uoro_jax.trees import conjugate, join, like, moving


class JaxDynamics:
    """Forward pass, JVP and VJP by JAX's own transformations.

    All methods are pure functions of their arguments and work under the user's `jit`, `vmap` and
    `scan`. Compilation merges the forward passes of one step into one.

    Args:
        backend: Backend of the arrays.
        transition: Function ``(params, state, inputs) -> (next_state, output)``.
        has_aux: Whether the transition returns a third element.
        twice: Whether the JVP is computed as the VJP of the VJP, instead of in forward mode.
    """

    span = 1

    def __init__(
        self,
        backend: Backend,
        transition: Callable[..., Any],
        has_aux: bool,
        twice: bool = False,
    ) -> None:
        self.backend = backend
        self._transition, self._has_aux, self._twice = transition, has_aux, twice
        self._push = _push_twice if twice else _push_forward
        self._outcome = checked(transition, backend, has_aux=has_aux)

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Run one step."""
        return self._outcome(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Compute the JVP of one step, in the state."""

        def of_state(moved: Any) -> tuple[Any, Any]:
            outcome = self._outcome(params, join(state, moved), inputs)
            return like(state, outcome.next_state), moving(outcome.output)

        pushed, output_tangent = self._push(of_state, moving(state), state_tangent)
        return pushed, output_tangent

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Run one step, and return a pullback that can be called any number of times.

        A pullback differentiates only the outputs whose cotangent is given. The compiler then
        drops the parameters that do not reach these outputs: a readout costs nothing in the VJP
        of signs with the next state.
        """

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            def outputs(params: Any, moved: Any) -> tuple[Any, Any]:
                outcome = self._outcome(params, join(state, moved), inputs)
                return (
                    () if state_cotangent is None else like(state, outcome.next_state),
                    () if output_cotangent is None else moving(outcome.output),
                )

            primal, pull = jax.vjp(outputs, params, moving(state))
            given = tuple(
                () if cotangent is None else conjugate(_cast(cotangent, result))
                for cotangent, result in zip(
                    (state_cotangent, output_cotangent), primal, strict=True
                )
            )
            by_params, by_state = conjugate(pull(given))
            return by_params, by_state

        return self._outcome(params, state, inputs), pullback

    def many(self) -> JaxDynamics:
        """Build one dynamics of many streams: state, inputs and output are stacks.

        The pullback computes the sum over streams as one matrix product; the share of a single
        stream in the gradient of the params is never materialized.
        """
        together = jax.vmap(self._transition, (None, 0, 0))
        return JaxDynamics(self.backend, together, self._has_aux, self._twice)


def _cast(cotangent: Any, result: Any) -> Any:
    """Return a cotangent in the dtypes of a result; numbers become arrays."""
    return jax.tree.map(lambda leaf, given: jnp.asarray(given, leaf.dtype), result, cotangent)


def _push_forward(function: Callable[[Any], Any], at: Any, tangent: Any) -> Any:
    """Compute a JVP in forward mode."""
    return jax.jvp(function, (at,), (tangent,))[1]


def _push_twice(function: Callable[[Any], Any], at: Any, tangent: Any) -> Any:
    """Compute a JVP as the VJP of the VJP, which is linear in its cotangent."""
    value, pull = jax.vjp(function, at)
    _, push = jax.vjp(lambda given: conjugate(pull(conjugate(given))), value)
    (pushed,) = push((conjugate(tangent),))
    return conjugate(pushed)
