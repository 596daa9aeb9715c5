"""An Equinox cell learns with optax, in one `jax.lax.scan`."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from uoro_jax import from_module, online

UNITS, STEPS = 16, 4_000


class Network(eqx.Module):
    """A GRU cell and a readout."""

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear

    def __call__(self, input, state):
        state = self.cell(input, state)
        return self.readout(state), state


def loss(output, target):
    return ((output - target) ** 2).mean()


keys = jax.random.split(jax.random.key(0), 3)
network = Network(eqx.nn.GRUCell(1, UNITS, key=keys[0]), eqx.nn.Linear(UNITS, 1, key=keys[1]))
model = from_module(network, loss, jnp.zeros(UNITS))
gradient, optimizer = online(model.transition), optax.adam(1e-3)


@jax.jit
def train(params, carry, moments, items, keys):
    """Learn from a stack of items, with an update after each."""

    def step(carried, inputs):
        params, carry, moments = carried
        carry, estimate = gradient.step(params, carry, *inputs)
        updates, moments = optimizer.update(estimate.gradient, moments, params)
        return (optax.apply_updates(params, updates), carry, moments), estimate.loss

    return jax.lax.scan(step, (params, carry, moments), (items, keys))


# Remember the number seen one step ago.
numbers = jax.random.rademacher(keys[2], (STEPS + 1, 1), dtype=jnp.float32)
items, step_keys = (numbers[1:], numbers[:-1]), jax.random.split(jax.random.key(1), STEPS)

first = jax.tree.map(lambda leaf: leaf[0], items)
carry = gradient.init(model.params, model.state, item=first)
moments = optimizer.init(model.params)
(params, *_), losses = train(model.params, carry, moments, items, step_keys)
trained = model.restore(params)  # an Equinox module again
print(gradient.describe())
print(f"squared error: {losses[:200].mean():.2f} at first, {losses[-200:].mean():.4f} at last")
