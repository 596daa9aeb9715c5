"""An Equinox cell learns with optax, in a `jit` and `scan` of one's own."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from uoro_jax import JaxBackend, from_module

from uoro import UORO

UNITS, STEPS = 16, 4_000


class Model(eqx.Module):
    """A GRU cell and a readout."""

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear

    def __call__(self, input, state):
        state = self.cell(input, state)
        return self.readout(state), state


def loss(output, target):
    return ((output - target) ** 2).mean()


keys = jax.random.split(jax.random.key(0), 3)
model = Model(eqx.nn.GRUCell(1, UNITS, key=keys[0]), eqx.nn.Linear(UNITS, 1, key=keys[1]))
made = from_module(model, loss, jnp.zeros(UNITS))
backend = JaxBackend()
dynamics = backend.dynamics(made.transition)
estimator, optimizer = UORO(), optax.adam(1e-3)


def step(carried, item):
    params, state, carry, moments = carried
    inputs, key = item
    signs = estimator.draw(partial(backend.random, key), state)
    carry, state, estimate = estimator.step(dynamics, params, carry, state, inputs, signs)
    updates, moments = optimizer.update(estimate.gradient, moments, params)
    return (optax.apply_updates(params, updates), state, carry, moments), estimate.loss


# Remember the number seen one step ago.
numbers = jax.random.rademacher(keys[2], (STEPS + 1, 1), dtype=jnp.float32)
items = (numbers[1:], numbers[:-1]), jax.random.split(jax.random.key(1), STEPS)

dynamics.probe(made.params, made.state, (numbers[1], numbers[0]))
print(dynamics.describe())
start = (
    made.params,
    made.state,
    estimator.init(dynamics, made.params, made.state),
    optimizer.init(made.params),
)
(params, *_), losses = jax.jit(partial(jax.lax.scan, step))(start, items)
trained = made.restore(params)  # an Equinox module again
print(f"squared error: {losses[:200].mean():.2f} at first, {losses[-200:].mean():.4f} at last")
