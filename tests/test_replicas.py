"""Replicas are learners alone, whatever becomes of the others."""

from __future__ import annotations

import math
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest

from uoro import SGD, UORO, Adam, Learner, load_backend
from uoro.errors import SettingError
from uoro.estimators import Truncated
from uoro.lab import Replicas
from uoro.learning import Metrics
from uoro.tasks import Network, anbn

BACKENDS = ["autograd", "torch", "jax"]


def _task(name: str) -> tuple[Any, Any, list[tuple[Any, Any]], Any]:
    task = anbn(1, 4, network=Network("gru", 3))
    backend = load_backend(name)
    dynamics = backend.dynamics(partial(task.model.transition, backend.xp))
    starts = []
    for seed in (5, 6, 7):
        params, state = task.model.init(np.random.default_rng(seed))
        starts.append(
            (backend.from_host(params, dtype="float32"), backend.from_host(state, dtype="float32"))
        )
    return task, dynamics, starts, backend


@pytest.mark.parametrize("name", BACKENDS)
def test_a_replica_is_the_learner_alone(name: str) -> None:
    task, dynamics, starts, backend = _task(name)
    seeds = [5, 6, 7]
    replicas = Replicas(dynamics, UORO(), Adam(1e-2), starts, seeds=seeds)
    found: list[list[float]] = [[], [], []]

    def keep(first: int, losses: list[list[float]]) -> None:
        assert first == len(found[0])
        for kept, new in zip(found, losses, strict=True):
            kept += new

    streams = [task.stream(seed) for seed in seeds]
    assert replicas.run(streams, 20, chunk=8, report=keep) == 20
    assert replicas.run(streams, 10, chunk=8, report=keep) == 10
    assert replicas.steps == 30
    for i, seed in enumerate(seeds):
        learner = Learner(dynamics, UORO(), Adam(1e-2), *starts[i], seed=seed)
        alone: list[float] = []

        def note(metrics: Metrics, kept: list[float] = alone) -> None:
            kept.extend(metrics.losses)

        learner.run(task.stream(seed), 30, report=note)
        np.testing.assert_allclose(found[i], alone, rtol=2e-4)
        for (where, mine), (_, theirs) in zip(
            backend.named_leaves(backend.to_host(replicas.params[i])),
            backend.named_leaves(backend.to_host(learner.params)),
            strict=True,
        ):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5, err_msg=where)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("name", ["autograd", "jax"])
def test_one_that_diverges_leaves_the_others_alone(name: str) -> None:
    backend = load_backend(name)
    dynamics = backend.dynamics(lambda w, s, x: (s * 0.0 + w, ((w * w - x) ** 2).sum()))
    starts = [
        (backend.from_host(np.float32(w)), backend.from_host(np.zeros(1, np.float32)))
        for w in (1.5, 1e6)
    ]
    replicas = Replicas(dynamics, Truncated(), SGD(1e-2), starts, seeds=[0, 1])
    seen: list[list[float]] = [[], []]

    def keep(first: int, losses: list[list[float]]) -> None:
        for kept, new in zip(seen, losses, strict=True):
            kept += new

    ones = np.ones(40, np.float32)
    assert replicas.run([iter(ones), iter(ones)], 40, chunk=7, report=keep) == 40
    assert len(seen[0]) == len(seen[1]) == 40
    assert seen[0][-1] < 0.05 * seen[0][0]
    assert not math.isfinite(seen[1][-1])


@pytest.mark.parametrize("name", ["autograd", "jax"])
def test_the_shortest_stream_ends_the_run(name: str) -> None:
    task, dynamics, starts, _ = _task(name)
    replicas = Replicas(dynamics, UORO(), SGD(1e-3), starts, seeds=[0, 1, 2])
    streams = [iter(list(islice(task.stream(0), 12))) for _ in starts]
    assert replicas.run(streams, 30, chunk=5) == 12


def test_streams_and_numbers_out_of_range_are_named() -> None:
    task, dynamics, starts, _ = _task("autograd")
    replicas = Replicas(dynamics, UORO(), SGD(1e-3), starts, seeds=[0, 1, 2])
    streams = [task.stream(0) for _ in starts]
    with pytest.raises(SettingError, match="expected 3 streams, one per replica, got 2"):
        replicas.run(streams[:2], 5)
    with pytest.raises(SettingError, match="chunk=0"):
        replicas.run(streams, 5, chunk=0)
    with pytest.raises(SettingError, match="steps=-1"):
        replicas.run(streams, -1)


def test_seeds_and_starts_must_agree() -> None:
    _, dynamics, starts, _ = _task("autograd")
    with pytest.raises(SettingError, match="as many seeds as starts"):
        Replicas(dynamics, UORO(), SGD(1e-3), starts, seeds=[0])
    with pytest.raises(SettingError, match="as many seeds as starts"):
        Replicas(dynamics, UORO(), SGD(1e-3), [], seeds=[])
