"""Noise, learning and time of estimators, on one core with JAX: Kronecker sums beside others.

python benchmarks/kronecker.py noise gru 64 1 1000000 0 uoro kron:1 kron:2 kron:3 kron:4
python benchmarks/kronecker.py learn gru kron:2 500000 0
python benchmarks/kronecker.py recall 60000 0 kron:2 uoro tbptt:32,rolling rtrl
python benchmarks/kronecker.py time gru 64 uoro kron:2 joint:16
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np

from uoro import Adam, Learner, load_backend
from uoro.estimators.spelling import parse_estimator
from uoro.lab.reproduce.learning import BLOCKS, learn, learning_run
from uoro.lab.reproduce.noise import noise_by_estimator
from uoro.lab.reproduce.paper_tasks import ANBN, network
from uoro.lab.reproduce.plan import ReproductionPlan
from uoro.learning.carry import Metrics
from uoro.models import CELLS, SymbolModel
from uoro.tasks import recall

WINDOWS, SKIPPED, RUNS = 90, 30, 8
"""Steps from the zero state, steps left out, and runs with signs of their own."""
MARKS = (100_000, 200_000, 300_000, 500_000)
ITEMS, ROUNDS = 2048, 5


def noise(cell: str, units: str, layers: str, characters: str, seed: str, *estimators: str) -> None:
    """Print relative variances on a network trained by UORO on aⁿbⁿ(1, 32), and held."""
    settings = ReproductionPlan().common("float64") | {
        **ANBN,
        "network": network(cell, int(units)) | {"layers": int(layers)},
        "estimators": list(estimators),
        "window": 1,
        "windows": WINDOWS,
        "skipped_windows": SKIPPED,
        "reruns": RUNS,
        "stages": [int(characters)],
        "seed": int(seed),
    }
    found = noise_by_estimator(settings, lambda done: None)
    for name in estimators:
        value = found["relative_variance"][name][0]
        half = 1.96 * found["standard_error"][name][0]
        print(
            f"{cell} {units} x {layers}, {characters} characters: {name} {value:.3g} ± {half:.1g}"
        )


def losses(cell: str, estimator: str, characters: str, seed: str) -> None:
    """Print the loss on aⁿbⁿ(1, 32) over the last 50,000 characters, along a run."""
    items = int(characters)
    job = learning_run(
        "",
        common=ReproductionPlan().common(),
        **ANBN,
        network=network(cell),
        estimator=estimator,
        items=items,
        seeds=[int(seed)],
        window=50_000,
        microseconds=1.0,
    )
    blocks = learn(job.settings, lambda done: None)["replicas"][0]["blocks"]
    width = max(1, round(50_000 * BLOCKS / items))
    for mark in MARKS:
        if mark <= items:
            end = mark * BLOCKS // items
            loss = np.mean(blocks[end - width : end])
            print(f"{cell} {estimator} seed {seed} at {mark}: {loss:.4f}")


def recalled(items: str, seed: str, *estimators: str) -> None:
    """Print the squared error of answers over the last quarter, on recall after 20 to 30 steps."""
    backend, task, count = load_backend("jax"), recall(), int(items)
    start = task.model.init(np.random.default_rng(int(seed)))
    params, state = (backend.from_host(tree, dtype="float32") for tree in start)
    dynamics = backend.dynamics(partial(task.model.transition, backend.xp))
    stream = iter(task.stream(int(seed)))
    targets = [next(stream)["target"] for _ in range(count)]
    asked = np.count_nonzero(targets[-(count // 4) :])
    for name in estimators:
        choice, losses = parse_estimator(name), list[Any]()
        learner = Learner(dynamics, choice.estimator, task.optimizer, params, state, seed=int(seed))
        begun = time.process_time()
        learner.run(
            iter(task.stream(int(seed))),
            count,
            chunk=count // 20,
            report=partial(_keep, losses),
        )
        error = np.concatenate(losses)[-(count // 4) :].sum() / asked
        took = time.process_time() - begun
        print(f"recall {name} seed {seed}: {error:.4f}, {took:.0f} s", flush=True)


def _keep(losses: list[Any], metrics: Metrics) -> None:
    losses.append(np.asarray(metrics.losses))


def times(cell: str, units: str, *estimators: str) -> None:
    """Print the processor time of a step with Adam, of one layer; estimators take turns."""
    backend, model = load_backend("jax"), SymbolModel((CELLS[cell](int(units)),), 4)
    start = model.init(np.random.default_rng(0))
    params, state = (backend.from_host(tree, dtype="float32") for tree in start)
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    count = ITEMS // max(1, int(units) // 64)
    drawn = np.random.default_rng(1).integers(0, 4, (count, 2)).astype(np.int32)
    items: list[Any] = [{"symbol": one, "target": other} for one, other in drawn]
    learners = {
        name: Learner(dynamics, parse_estimator(name).estimator, Adam(1e-3), params, state)
        for name in estimators
    }
    best = dict.fromkeys(estimators, float("inf"))
    for number in range(ROUNDS + 1):
        for name, learner in learners.items():
            begun = time.process_time()
            learner.run(iter(items), count, chunk=count // 2)
            if number:
                best[name] = min(best[name], (time.process_time() - begun) / count)
    for name in estimators:
        share = best[name] / best[estimators[0]]
        print(
            f"{cell} {units} {name}: {1e6 * best[name]:.0f} µs, {share:.2f} times {estimators[0]}"
        )


if __name__ == "__main__":
    commands: dict[str, Any] = {"noise": noise, "learn": losses, "recall": recalled, "time": times}
    commands[sys.argv[1]](*sys.argv[2:])
