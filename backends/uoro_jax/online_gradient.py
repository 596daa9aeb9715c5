"""An online gradient as two pure functions, shaped like an optax transformation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from uoro.arguments import mismatch, require_callable, require_estimator
from uoro.dynamics import Dynamics
from uoro.errors import StructureError, spelled
from uoro.estimator import Estimate, Estimator
from uoro.estimators import UORO
from uoro_jax.backend import JaxBackend
from uoro_jax.trees import require_arrays

_STEP = "OnlineGradient.step("


class Carry(NamedTuple):
    """What goes from one step to the next: a pytree.

    Attributes:
        state: Hidden state of the model.
        influence: Estimate of the influence, the sensitivity of the hidden state to the
            parameters: for UORO a pair (s̃, θ̃). Whatever the estimator carries.
    """

    state: Any
    influence: Any


@dataclass(frozen=True)
class OnlineGradient:
    """The functions `init` and `step` of one model and one estimator, built by `online`.

    Attributes:
        dynamics: The model. ``dynamics.describe()`` says how the model is differentiated.
        estimator: The estimator.
    """

    dynamics: Dynamics[Any, Any, Any]
    estimator: Estimator

    def init(self, params: Any, state: Any, *, item: Any = None) -> Carry:
        """Return the carry of a run that starts at ``state``.

        Args:
            params: Parameters, a pytree of floating or complex arrays.
            state: Initial hidden state, a pytree of arrays; a stack of B for `uoro.Streams`.
            item: Item of the stream, for its shape. Only `uoro.RollingTruncated` needs one.

        Raises:
            StructureError: If a leaf of params or state is no array.
        """
        for name, tree in (("params", params), ("state", state)):
            require_arrays(f"OnlineGradient.init({name}=...)", tree)
        params, state = jax.tree.map(jnp.asarray, (params, state))
        influence = self.estimator.init(self.dynamics, params, state, inputs=item)
        return Carry(state, influence)

    def step(self, params: Any, carry: Carry, item: Any, key: Any) -> tuple[Carry, Estimate]:
        """Run the model on one item, and estimate the gradient of the loss.

        Args:
            params: Parameters.
            carry: Carry of the previous step, or of `init`.
            item: Item of the stream, third argument of the transition.
            key: PRNG key of this step. Reusing a key at another step biases the gradient.

        Returns:
            The next carry, and an `Estimate` with the loss, the gradient (shaped like ``params``)
            and the transition's third output, if any.

        Raises:
            DerivativeError: At the first step, if the model cannot be differentiated.
            StructureError: If ``carry`` was not returned by `init` or `step`, or ``key`` is no key.
        """
        if not isinstance(carry, Carry):
            hint = "Build it with init(params, state), and pass on what step returns."
            expected = "a uoro_jax.Carry"
            raise StructureError(mismatch(f"{_STEP}carry=...)", "", expected, spelled(carry), hint))
        signs = self._draw(key, carry.state)
        influence, state, estimate = self.estimator.step(
            self.dynamics, params, carry.influence, carry.state, item, signs
        )
        return Carry(state, influence), estimate

    def _draw(self, key: Any, state: Any) -> Any:
        try:
            return self.estimator.draw(partial(self.dynamics.backend.random, key), state)
        except (TypeError, ValueError) as error:
            got, expected = f"{spelled(key)} ({error})", "a PRNG key, such as jax.random.key(0)"
            raise StructureError(mismatch(f"{_STEP}key=...)", "", expected, got)) from error


def online(
    transition: Callable[..., Any] | Dynamics[Any, Any, Any],
    estimator: Estimator | None = None,
    *,
    has_aux: bool = False,
    check: bool = True,
) -> OnlineGradient:
    """Build the functions `init` and `step` of an online gradient.

    Both are pure and work under `jax.jit`, `jax.lax.scan`, and `jax.vmap` over streams. The first
    step runs a model check: at the numbers of that step or, under a transformation, at numbers of
    the same shapes.

    Args:
        transition: Function ``(params, state, item) -> (next_state, loss)``, or dynamics built
            from one, as by `uoro.unroll`.
        estimator: ``UORO()`` if ``None``: rank one.
        has_aux: Whether the transition returns a third element, passed on as ``estimate.aux``.
        check: Whether the first step runs a model check. Has no effect on dynamics.

    Raises:
        SettingError: If the transition is not callable, or the estimator is none.

    Example:
        Learn to remember the number seen one step ago, with optax and one `jax.lax.scan`:

        >>> import jax, jax.numpy as jnp, optax
        >>> from uoro_jax import online
        >>> def transition(params, state, item):
        ...     x, target = item
        ...     state = jnp.tanh(params["W"] @ state + params["u"] * x)
        ...     return state, (params["c"] @ state - target) ** 2
        >>> params = {"W": 0.5 * jnp.eye(8), "u": jnp.ones(8), "c": jnp.zeros(8)}
        >>> gradient, optimizer = online(transition), optax.adam(3e-3)
        >>> def step(carried, inputs):
        ...     params, carry, moments = carried
        ...     carry, estimate = gradient.step(params, carry, *inputs)
        ...     updates, moments = optimizer.update(estimate.gradient, moments, params)
        ...     return (optax.apply_updates(params, updates), carry, moments), estimate.loss
        >>> numbers = jax.random.normal(jax.random.key(0), (2001,))
        >>> items, keys = (numbers[1:], numbers[:-1]), jax.random.split(jax.random.key(1), 2000)
        >>> start = params, gradient.init(params, jnp.zeros(8)), optimizer.init(params)
        >>> _, losses = jax.lax.scan(step, start, (items, keys))
        >>> bool(losses[-500:].mean() < losses[:500].mean())
        True
    """
    call = "online(transition, estimator)"
    if estimator is None:
        estimator = UORO()
    require_estimator(call, estimator)
    given: Any = transition
    if hasattr(given, "vjp"):
        return OnlineGradient(given, estimator)
    require_callable(call, "transition", transition, "a function (params, state, item)")
    dynamics = JaxBackend().dynamics(given, has_aux=has_aux, check=check)
    return OnlineGradient(dynamics, estimator)
