"""The first steps of the actor-critic of `examples/actor_critic.py`."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import jax
import numpy as np

EXAMPLE = Path(__file__).parent.parent / "examples" / "actor_critic.py"
STEPS = 200


def test_its_first_200_steps() -> None:
    """Truncation gives the memory no gradient: the output reads the state before the step."""
    example = runpy.run_path(str(EXAMPLE))
    keys = jax.random.split(jax.random.key(1), (1, STEPS))
    for name in ("RTRL", "one-step truncation"):
        start, run = example["build"](example["ESTIMATORS"][name])
        first = start(jax.vmap(jax.random.key)(np.arange(1)))
        loop: Any
        loop, rewards = run(first, keys)
        again, _ = run(first, keys)
        for leaf, same in zip(jax.tree.leaves(loop), jax.tree.leaves(again), strict=True):
            np.testing.assert_array_equal(leaf, same)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loop.params))
        episodes = STEPS * example["AGENTS"] / (example["CORRIDOR"] + 1)
        assert 0 < np.abs(rewards).sum() <= 1.1 * episodes  # of agents that end together, the sum
        assert np.any(loop.params["policy"])
        learned = np.any(loop.params["recurrent"] != first.params["recurrent"])
        assert learned == (name == "RTRL")
