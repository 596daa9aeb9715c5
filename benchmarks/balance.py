"""Print how far apart rounding drives the two sides of joint pairs, in float32 on JAX.

    python benchmarks/balance.py [--steps 400000] [--rank 4]

A step takes the inner products of the cotangents it carries to be those of their tangents. Printed
is the largest difference of the two, relative to the lengths of the cotangents, along a run: of
networks that learn aⁿbⁿ, and of a sum that forgets nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uoro import SGD, JointUORO, Learner, load_backend
from uoro.tasks import Network, anbn

UNITS = 64


def network(cell: str, rank: int) -> tuple[Learner, Any]:
    """Make a network that learns aⁿbⁿ, and its stream."""
    backend, task = load_backend("jax"), anbn(network=Network(cell, UNITS))
    start = task.model.init(np.random.default_rng(0))
    params, state = (backend.from_host(tree, dtype="float32") for tree in start)
    dynamics = backend.dynamics(partial(task.model.transition, backend.xp))
    estimator = JointUORO(rank)
    return Learner(dynamics, estimator, task.optimizer, params, state), task.stream(0)


def endless_sum(rank: int) -> tuple[Learner, Any]:
    """Make a state that adds up what comes, whose params hardly move, and a stream of noise."""

    def transition(weights: Any, state: Any, item: Any) -> Any:
        state = state + 1e-3 * jnp.tanh(weights @ item)
        return state, 1e-3 * jnp.sum((state - 1.0) ** 2)

    def stream() -> Iterator[Any]:
        generator = np.random.default_rng(2)
        while True:
            yield generator.normal(size=5).astype(np.float32)

    weights = 0.1 * np.random.default_rng(1).normal(size=(UNITS, 5)).astype(np.float32)
    dynamics, estimator = load_backend("jax").dynamics(transition), JointUORO(rank)
    return Learner(dynamics, estimator, SGD(1e-9), jnp.array(weights), jnp.zeros(UNITS)), stream()


def gap(carry: Any) -> float:
    """Compare the inner products of both sides."""
    of_tangents, of_cotangents = (
        rows @ rows.T
        for rows in (
            np.concatenate(
                [np.asarray(leaf, float).reshape(len(leaf), -1) for leaf in jax.tree.leaves(side)],
                axis=1,
            )
            for side in (carry.tangent, carry.cotangent)
        )
    )
    lengths = np.sqrt(np.diag(of_cotangents))
    return float((abs(of_tangents - of_cotangents) / np.outer(lengths, lengths)).max())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--rank", type=int, default=4, help="from 2 on")
    options = parser.parse_args()
    marks = [steps for steps in (1_000, 10_000, 100_000) if steps < options.steps]
    print(f"{'after':12}" + "".join(f"{steps:>12,}" for steps in [*marks, options.steps]))
    for name, (learner, stream) in (
        ("GRU", network("gru", options.rank)),
        ("LSTM", network("lstm", options.rank)),
        ("sum", endless_sum(options.rank)),
    ):
        gaps = list[float]()
        for steps in (*marks, options.steps):
            learner.run(stream, steps - learner.steps, chunk=1000)
            gaps.append(gap(learner.carry))
        print(f"{name:12}" + "".join(f"{each:12.1e}" for each in gaps), flush=True)


if __name__ == "__main__":
    main()
