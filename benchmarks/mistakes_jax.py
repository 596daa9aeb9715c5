"""Mistakes in JAX, and in what all backends share; see `mistakes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch
from uoro_jax import online

from uoro import SGD, UORO, Learner, load_backend

PARAMS, ZERO, KEY = {"w": jnp.full(2, 0.5)}, jnp.zeros(2), jax.random.key(0)
MISTAKES: list[Callable[[], Any]] = []


def transition(params: Any, state: Any, x: Any) -> Any:
    """Return the next state, and a loss."""
    state = jnp.tanh(params["w"] * state + x)
    return state, (state**2).sum()


def mistake(function: Callable[[], Any]) -> Callable[[], Any]:
    """Add a function to the list."""
    MISTAKES.append(function)
    return function


def core(**more: Any) -> Any:
    """Return the pure functions, and the first carry."""
    made = online(transition, UORO(), **more)
    return made, made.init(PARAMS, ZERO)


@mistake
def _() -> Any:
    """JAX: a NaN in an item, without `jax.jit`."""
    made, carry = core()
    made.step(PARAMS, carry, jnp.nan, KEY)


@mistake
def _() -> Any:
    """JAX: a NaN in an item under `jax.jit`, and `core.check(carry, losses)` after the run."""
    made, carry = core()
    carry, estimate = jax.jit(made.step)(PARAMS, carry, jnp.nan, KEY)
    made.check(carry, estimate.loss[None])


@mistake
def _() -> Any:
    """JAX: the same without `check`."""
    made, carry = core()
    step = jax.jit(made.step)
    for x in (jnp.nan, 1.0):
        carry, estimate = step(PARAMS, carry, x, KEY)
    return f"number: this loss and every later one is {float(estimate.loss)}."


@mistake
def _() -> Any:
    """JAX: `jax.grad` through `core.step`."""
    made, carry = core()
    jax.grad(lambda params: made.step(params, carry, 1.0, KEY)[1].loss)(PARAMS)


@mistake
def _() -> Any:
    """JAX: a state in the place of the carry."""
    core()[0].step(PARAMS, ZERO, 1.0, KEY)


@mistake
def _() -> Any:
    """JAX: an integer for the key."""
    made, carry = core()
    made.step(PARAMS, carry, 1.0, 3)


@mistake
def _() -> Any:
    """JAX: the same key at every step."""
    made, carry = core()
    for _ in range(2):
        carry, _ = jax.jit(made.step)(PARAMS, carry, 1.0, KEY)
    return "nothing: the estimates of a run depend on each other; a pure function keeps no keys."


@mistake
def _() -> Any:
    """JAX: the carry of before given to every step."""
    made, carry = core()
    for _ in range(2):
        jax.jit(made.step)(PARAMS, carry, 1.0, KEY)
    return "nothing: every step is the first; a pure function does not know of another call."


@mistake
def _() -> Any:
    """JAX: tensors of PyTorch for the parameters."""
    online(transition, UORO()).init({"w": torch.ones(2)}, ZERO)


@mistake
def _() -> Any:
    """JAX: a loss that is a vector."""
    made = online(lambda p, s, x: (s, p["w"] * s), UORO())
    made.step(PARAMS, made.init(PARAMS, ZERO), 1.0, KEY)


@mistake
def _() -> Any:
    """JAX: a next state of another shape."""
    made = online(lambda p, s, x: (jnp.append(s, x), s.sum()), UORO())
    made.step(PARAMS, made.init(PARAMS, ZERO), 1.0, KEY)


@mistake
def _() -> Any:
    """The learning rate 1000 in a `Learner`."""
    backend = load_backend("jax")
    dynamics = backend.dynamics(lambda p, s, x: (p["w"] * s + x, ((p["w"] * s + x - 1) ** 2).sum()))
    learner = Learner(dynamics, UORO(), SGD(1000.0), PARAMS, ZERO)
    learner.run([1.0] * 100)


@mistake
def _() -> Any:
    """A backend's name misspelt."""
    load_backend("jaxx")


@mistake
def _() -> Any:
    """A model of JAX, and parameters of PyTorch, in a `Learner`."""
    dynamics = load_backend("jax").dynamics(transition)
    learner = Learner(dynamics, UORO(), SGD(0.1), {"w": torch.ones(2)}, ZERO)
    learner.step(1.0)
    return f"works: they become arrays of the backend, {type(learner.params['w']).__name__}."


@mistake
def _() -> Any:
    """A stream that is empty."""
    learner = Learner(load_backend("jax").dynamics(transition), UORO(), SGD(0.1), PARAMS, ZERO)
    summary = learner.run([])
    return (
        f"number: the summary says {summary.steps} steps, and a mean loss of {summary.mean_loss}."
    )
