"""Print what the reduction of joint pairs costs a step, beside its jvps and pullbacks, on JAX.

    python benchmarks/reduction.py [--cell gru] [--units 64] [--ranks 2,4,8] [--out FILE.json]

All are whole steps of a learner on aⁿbⁿ on one core, and take turns. `sweeps` does all that a step
of joint pairs does but to reduce them: k jvps, k pullbacks written out and added to what is
carried. What is left of joint pairs without it is the reduction: inner products, the small
decomposition, the combinations.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

# One core, whatever the machine has; set before JAX starts its thread pool.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np

from uoro import UORO, JointUORO, Learner, load_backend
from uoro.algebra import mix
from uoro.derivatives.sweep import read, sweep
from uoro.estimator import Estimate
from uoro.estimators import JointInfluence
from uoro.estimators.joint_pairs import project
from uoro.files.results import made_with, write_document
from uoro.tasks import Network, anbn

CHUNK = 2000


class Sweeps(JointUORO):
    """Joint pairs that are pushed and pulled, and not reduced: what they give means nothing."""

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> Any:
        """Do all of a step but the reduction."""
        backend = dynamics.backend
        fresh = project(backend, signs, self.rank)
        swept = sweep(dynamics, params, state, inputs, carry.tangent, fresh, backend.vmap)
        pulled = backend.vmap(swept.pull)(fresh, swept.kept)
        immediate, weights = read(backend, swept, carry.tangent, 1.0, stacked=True)
        carried = mix(backend, weights, carry.cotangent)
        gradient = backend.combine((1.0, immediate), (1.0, carried))
        after = JointInfluence(
            backend.combine((0.5, swept.pushed), (0.5, fresh)),
            backend.combine((0.5, carry.cotangent), (0.5, pulled)),
            carry.added,
        )
        outcome = swept.outcome
        return after, outcome.next_state, Estimate(outcome.loss, gradient, outcome.aux)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--ranks", default="2,4,8", help="from 2 on")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    ranks = [int(rank) for rank in options.ranks.split(",")]
    if min(ranks) < 2:
        parser.error(f"--ranks: expected ranks from 2 on, got {options.ranks}")

    backend = load_backend("jax")
    task = anbn(network=Network(options.cell, options.units))
    start = task.model.init(np.random.default_rng(0))
    params, state = (backend.from_host(tree, dtype="float32") for tree in start)
    dynamics = backend.dynamics(partial(task.model.transition, backend.xp))
    items = list(islice(task.stream(0), CHUNK))
    rows: dict[str, UORO | JointUORO] = {"rank 1": UORO()}
    for rank in ranks:
        rows[f"rank {rank}, independent"] = UORO(rank=rank)
        rows[f"rank {rank}, sweeps"] = Sweeps(rank)
        rows[f"rank {rank}, joint"] = JointUORO(rank)
        rows[f"rank {rank}, joint, scaled"] = JointUORO(rank, scaling="rows")
    learners = {
        name: Learner(dynamics, estimator, task.optimizer, params, state)
        for name, estimator in rows.items()
    }
    took: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(options.rounds + 1):
        for name, learner in learners.items():
            begun = time.perf_counter()
            learner.run(items, chunk=CHUNK)
            if number:  # In the first round they are compiled.
                took[name].append((time.perf_counter() - begun) / CHUNK * 1e6)

    print(
        f"{options.cell}, {options.units} units, {task.title}, float32, {backend.device}, one core"
    )
    print(f"{'':24}{'µs a step':>12}{'least':>10}")
    for name, times in took.items():
        print(f"{name:24}{np.median(times):12.1f}{min(times):10.1f}")
    base = np.array(took["rank 1"])
    for rank in ranks:
        sweeps, joint, scaled = (
            np.array(took[f"rank {rank}, {each}"]) for each in ("sweeps", "joint", "joint, scaled")
        )
        ratio = np.median((joint - sweeps) / sweeps)
        print(
            f"rank {rank}: the reduction takes {np.median(joint - sweeps):.1f} µs, {ratio:.2f} "
            f"times the rest of the step, scaling {np.median(scaled - joint):.1f} µs; joint pairs "
            f"take {np.median(joint / base):.1f} times what rank 1 does"
        )
    if options.out is not None:
        write_document(options.out, {"made": made_with("jax"), "microseconds": took})


if __name__ == "__main__":
    main()
