"""`online`: a model step that JAX differentiates online."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from uoro.arguments import require_callable, require_choice
from uoro.dynamics import Dynamics
from uoro.estimator import Estimator
from uoro.estimators.auto import Auto
from uoro.estimators.chosen import as_estimator
from uoro_jax.backend import JaxBackend
from uoro_jax.faults import OnNonfinite
from uoro_jax.online_gradient import OnlineGradient


def online(
    transition: Callable[..., Any] | Dynamics[Any, Any, Any],
    estimator: Estimator | Auto | str | None = None,
    *,
    has_aux: bool = False,
    check: bool = True,
    on_nonfinite: OnNonfinite = "raise",
) -> OnlineGradient:
    """Build a model step that `jax.grad` differentiates online, without backpropagation in time.

    The result is a pure function ``core(params, carry, item, key) -> (carry, output)``, with its
    ``init``. The first step runs a model check: at the numbers of that step or, under a
    transformation, at numbers of the same shapes.

    Args:
        transition: Function ``(params, state, item) -> (next_state, output)``, where the output is
            any pytree of arrays, or dynamics built from one, as by `uoro.unroll`.
        estimator: Gradient estimator, or its name as on the command line. By default ``"auto"``:
            one that fits the model, chosen by the ``item`` of `init`; `OnlineGradient.describe`
            says which, and why.
        has_aux: Whether the transition returns a third element, passed on as ``estimate.aux``.
        check: Whether the first step runs a model check. Has no effect on dynamics.
        on_nonfinite: What happens at a step whose loss, gradient, next state or estimate is not
            finite. ``"raise"``: without a transformation, raise `uoro.NonFiniteError`. A compiled
            program cannot raise: there NaN goes on, as everywhere in JAX, into every later loss
            and into the params; ``core.check(carry, losses)`` raises after the run, with the step.
            ``"skip"``: the carry stays as it was, the gradient of the step is zero, and the next
            step goes on. ``"reset"``: as skip, and the influence estimate starts anew. Both count
            in ``carry.faults``, and take a few microseconds a step. A loss made of the output is
            not seen: where it is not finite, it shows that, and its gradient is zero.

    Raises:
        SettingError: If the transition is not callable, the estimator is none, or a setting is out
            of range.

    Example:
        Learn to remember the number seen one step ago, with optax and one `jax.lax.scan`:

        >>> import jax, jax.numpy as jnp, optax
        >>> from uoro_jax import online
        >>> def transition(params, state, x):
        ...     state = jnp.tanh(params["W"] @ state + params["u"] * x)
        ...     return state, params["c"] @ state
        >>> core, optimizer = online(transition), optax.adam(3e-3)
        >>> def loss(params, carry, x, target, key):
        ...     carry, output = core(params, carry, x, key)
        ...     return (output - target) ** 2, carry
        >>> def step(carried, inputs):
        ...     params, carry, moments = carried
        ...     (error, carry), gradient = jax.value_and_grad(loss, has_aux=True)(
        ...         params, carry, *inputs)
        ...     updates, moments = optimizer.update(gradient, moments, params)
        ...     return (optax.apply_updates(params, updates), carry, moments), error
        >>> params = {"W": 0.5 * jnp.eye(8), "u": jnp.ones(8), "c": jnp.zeros(8)}
        >>> numbers = jax.random.normal(jax.random.key(0), (2001,))
        >>> keys = jax.random.split(jax.random.key(1), 2000)
        >>> start = params, core.init(params, jnp.zeros(8), item=numbers[0]), optimizer.init(params)
        >>> _, losses = jax.lax.scan(step, start, (numbers[1:], numbers[:-1], keys))
        >>> bool(losses[-500:].mean() < losses[:500].mean())
        True

        A transition that returns its loss has a shorter loop: ``carry, estimate =
        core.step(params, carry, item, key)``, with ``estimate.loss`` and ``estimate.gradient``.
    """
    call = "online(transition, estimator)"
    chosen = as_estimator(call, estimator)
    require_choice(call, "on_nonfinite", on_nonfinite, get_args(OnNonfinite))
    given: Any = transition
    if hasattr(given, "vjp"):
        return OnlineGradient(given, chosen, on_nonfinite)
    require_callable(call, "transition", transition, "a function (params, state, item)")
    dynamics = JaxBackend().dynamics(given, has_aux=has_aux, check=check)
    return OnlineGradient(dynamics, chosen, on_nonfinite)
