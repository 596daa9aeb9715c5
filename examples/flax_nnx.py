"""A Flax NNX module with dropout learns from a stream, in the library's own loop."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from uoro_jax import JaxBackend, OptaxOptimizer, from_module

from uoro import UORO, Learner

UNITS, STEPS = 16, 3_000


class Network(nnx.Module):
    """A GRU cell, a little dropout, and a readout."""

    def __init__(self, rngs):
        self.cell = nnx.GRUCell(1, UNITS, rngs=rngs)
        self.dropout = nnx.Dropout(0.05, rngs=rngs)
        self.readout = nnx.Linear(UNITS, 1, rngs=rngs)

    def __call__(self, input, state):
        state, output = self.cell(state, input)
        return self.readout(self.dropout(output)), state


def loss(output, target):
    return ((output - target) ** 2).mean()


model = from_module(Network(nnx.Rngs(0)), loss, jnp.zeros(UNITS))
learner = Learner(
    JaxBackend().dynamics(model.transition),
    UORO(),
    OptaxOptimizer(optax.adam(1e-3)),
    model.params,
    model.state,  # with the random streams of the module: each step drops other units
)
numbers = np.random.default_rng(0).choice([-1.0, 1.0], (STEPS + 1, 1)).astype(np.float32)
losses = []
for _ in range(10):
    window = slice(learner.steps, learner.steps + STEPS // 10)
    items = zip(numbers[1:][window], numbers[:-1][window], strict=True)
    losses.append(learner.run(items).mean_loss)
trained = model.restore(learner.params, learner.state)  # an NNX module again
print(learner.dynamics.describe())
print(f"squared error: {losses[0]:.2f} at first, {losses[-1]:.2f} at last")
