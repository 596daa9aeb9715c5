"""Print time per step and memory along one long run, which are to be flat, on JAX and one core.

    python benchmarks/flat.py [--steps 10000000] [--estimator uoro] [--out results/flat.json]

At 10⁴ steps, 10⁵ and so on, ten windows of 1000 steps each are timed; live arrays are those that
JAX holds on to, the resident set is that of the whole process.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

# One core, whatever the machine has; set before JAX starts its thread pool.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import numpy as np

from uoro import Learner, load_backend, unroll
from uoro.estimators.spelling import parse_estimator
from uoro.files.resident import resident
from uoro.files.results import made_with, write_document
from uoro.lab.bench.timing import spread
from uoro.tasks import Network, anbn

live_arrays: Any = jax.live_arrays  # Its types are not there.
WINDOW, WINDOWS = 1000, 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the longest run")
    parser.add_argument("--estimator", default="uoro", help="as for uoro compare")
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()

    backend, choice = load_backend("jax"), parse_estimator(options.estimator)
    if choice.span is None:
        parser.error(f"--estimator {options.estimator}: it takes the whole run as one step")
    task = anbn(network=Network(options.cell, options.units))
    start = task.model.init(np.random.default_rng(0))
    params, state = (backend.from_host(tree, dtype="float32") for tree in start)
    dynamics: Any = backend.dynamics(partial(task.model.transition, backend.xp))
    stream: Any = task.stream(0)
    if choice.span > 1:
        dynamics = unroll(dynamics, choice.span)
    learner = Learner(dynamics, choice.estimator, task.optimizer, params, state)

    print(
        f"{options.cell}, {options.units} units, {task.title}, float32, {backend.device}, "
        f"{options.estimator}, one core"
    )
    print(f"{'steps':>12} {'µs a step':>10} {'quartiles':>15} {'live MiB':>9} {'resident MiB':>13}")
    rows = []
    for mark in _marks(options.steps):
        # The first mark is that of the first windows: compiling is done in one before them.
        ahead = mark - WINDOW * WINDOWS - learner.steps
        learner.run(stream, max(WINDOW, ahead), chunk=WINDOW)
        times = []
        for _ in range(WINDOWS):
            begin = time.perf_counter()
            learner.run(stream, WINDOW, chunk=WINDOW)
            times.append((time.perf_counter() - begin) / WINDOW * 1e6)
        live = sum(array.nbytes for array in live_arrays())
        held, each = resident(), spread(times)
        rows.append({"steps": learner.steps, "microseconds": times, "live": live, "resident": held})
        print(
            f"{learner.steps:>12,} {each.median:>10.1f} "
            f"{f'{each.low:.1f}–{each.high:.1f}':>15} {live / 2**20:>9.2f} "
            f"{'unknown' if held is None else f'{held / 2**20:.0f}':>13}",
            flush=True,
        )
    if options.out is not None:
        settings = {name: str(value) for name, value in vars(options).items() if name != "out"}
        write_document(options.out, {"settings": settings, "made": made_with("jax"), "rows": rows})


def _marks(most: int) -> list[int]:
    """List powers of ten, and the end."""
    return [*(10**power for power in range(4, 20) if 10**power < most), most]


if __name__ == "__main__":
    main()
