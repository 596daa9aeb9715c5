"""Print what a UORO step costs, as a multiple of a 1-truncated BPTT step, on JAX and one core.

Both run the same 64-unit GRU with the same Adam on the same stream at batch one, whole chunks
under one compiled loop, in turns, so that a slow moment of the machine hits both.

    python benchmarks/step_cost.py [--units 64] [--steps 4000] [--repeats 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from functools import partial

# One core, whatever the machine has; set before JAX starts its thread pool.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np

from uoro import UORO, Adam, Learner, Truncated, load_backend
from uoro.models import CELLS, SymbolModel
from uoro.schedules import inverse_sqrt

ALPHABET = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cell", choices=sorted(CELLS), default="gru")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4000, help="steps in one timed run")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    steps: int = options.steps

    backend = load_backend("jax")
    model = SymbolModel((CELLS[options.cell](options.units),), ALPHABET)
    params, state = model.init(np.random.default_rng(0))
    params, state = (backend.from_host(tree, dtype="float32") for tree in (params, state))
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    symbols = np.random.default_rng(1).integers(0, ALPHABET, steps + 1)

    class Repeated:
        """The same block of items again and again."""

        def __iter__(self) -> Repeated:
            return self

        def __next__(self) -> None:
            raise StopIteration

        def take(self, count: int) -> dict[str, np.ndarray]:
            return {"symbol": symbols[:count], "target": symbols[1 : count + 1]}

    learners = {
        name: Learner(dynamics, estimator, Adam(inverse_sqrt(1e-3, 0.03)), params, state)
        for name, estimator in (
            ("1-truncated BPTT", Truncated()),
            ("UORO", UORO()),
            ("UORO rank 4", UORO(rank=4)),
        )
    }

    def microseconds(learner: Learner) -> float:
        start = time.perf_counter()
        learner.run(Repeated(), steps, chunk=steps)
        return (time.perf_counter() - start) / steps * 1e6

    for learner in learners.values():
        microseconds(learner)
    times: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(options.repeats):
        for name, learner in learners.items():
            times[name].append(microseconds(learner))

    print(
        f"{options.cell}, {options.units} units, alphabet {ALPHABET}, float32, Adam, batch 1, "
        f"{backend.device}, one core; median [least, most] of {options.repeats} runs of "
        f"{steps} steps"
    )
    base = times["1-truncated BPTT"]
    for name, each in times.items():
        ratio = statistics.median(a / b for a, b in zip(each, base, strict=True))
        print(
            f"{name:>18}: {statistics.median(each):8.1f} µs a step "
            f"[{min(each):.1f}, {max(each):.1f}], {ratio:5.2f} x"
        )


if __name__ == "__main__":
    main()
