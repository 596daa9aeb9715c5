"""Sixteen streams on eight devices in JAX, and what is where.

The devices are simulated ones. Where there are several, leave the first two lines of code out.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from uoro_jax import JaxBackend, ShardedStreams

from uoro import UORO, Adam, Learner

STREAMS, UNITS, STEPS = 16, 16, 3_000


def transition(params, state, item):
    """Remember the number seen one step ago."""
    given, target = item
    state = jnp.tanh(params["recurrent"] @ state + params["input"] * given)
    return state, (params["readout"] @ state - target) ** 2


mesh = jax.make_mesh((8,), ("streams",))
generator = np.random.default_rng(0)
params = {
    "recurrent": 0.8 * np.linalg.qr(generator.normal(size=(UNITS, UNITS)))[0].astype("float32"),
    "input": 0.5 * generator.normal(size=UNITS).astype("float32"),
    "readout": np.zeros(UNITS, "float32"),
}
numbers = np.sign(generator.normal(size=(STEPS + 1, STREAMS))).astype("float32")
learner = Learner(
    JaxBackend().dynamics(transition),
    ShardedStreams(UORO(), STREAMS, mesh),
    Adam(3e-3),
    params,
    np.zeros((STREAMS, UNITS), "float32"),
)
losses = []
learner.run(
    zip(numbers[1:], numbers[:-1], strict=True),
    report=lambda metrics: losses.extend(metrics.losses),
)
for name, leaf in learner.carry.cotangent.items():
    shards = leaf.addressable_shards
    print(f"θ̃ of {name}: {leaf.shape} in all, {shards[0].data.shape} on each of {len(shards)}")
print(f"loss: {np.mean(losses[:100]):.3f} at first, {np.mean(losses[-100:]):.3f} at last")
