"""Learning runs: one task, one estimator, one seed or several side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uoro.backend import Backend
from uoro.derivatives.unroll import unroll
from uoro.estimators.spelling import parse_estimator
from uoro.lab.compare.curve import Curve
from uoro.lab.jobs import Job, JobSettings, Report
from uoro.lab.replicas import Losses, Replicas
from uoro.learning.host_noise import map_host
from uoro.registry import load_backend
from uoro.tasks import Network, Task
from uoro.tasks.catalogue import make_task

BLOCKS = 200
CHUNK = 4000
EAGER_CHUNK = 100


def task_of(settings: JobSettings) -> Task:
    """Build the task of a job, with its network."""
    network = None if settings["network"] is None else Network(**settings["network"])
    return make_task("reproduce", settings["task"], settings["arguments"], network)


def learning_run(
    id: str,
    *,
    common: JobSettings,
    task: str,
    arguments: JobSettings,
    network: JobSettings | None,
    estimator: str,
    items: int,
    seeds: list[int],
    window: int,
    microseconds: float,
) -> Job:
    """Return the job of a learning run.

    Args:
        id: Name of the job.
        common: Settings from `ReproductionPlan.common`.
        task: Key of `TASKS`.
        arguments: Arguments of the task.
        network: Fields of `Network`; ``None`` if the task has its own model.
        estimator: Estimator, as on the command line.
        items: Number of items of the stream.
        seeds: Seeds that run side by side.
        window: Number of last items for the mean loss.
        microseconds: Rough cost of an item, with the JAX backend on one core.
    """
    settings = common | {
        "task": task,
        "arguments": arguments,
        "network": network,
        "estimator": estimator,
        "items": items,
        "seeds": seeds,
        "window": window,
    }
    slower = 1.0 if common["backend"] == "jax" else 50.0
    return Job(id, "learning", settings, 5.0 + slower * items * len(seeds) * microseconds * 1e-6)


class Trace:
    """Record of the losses of one replica.

    Args:
        span: Number of items that each loss sums over.
        scale: Factor from a loss to the unit of the task.
        items: Number of items of the run.
        window: Number of last items for the mean loss.
    """

    def __init__(self, span: int, scale: float, items: int, window: int) -> None:
        self._curve = Curve(span=span, scale=scale)
        self._factor = scale / span
        self._steps = items // span
        self._last: list[float] = []
        self._window = max(1, window // span)
        self._sums = np.zeros(BLOCKS)
        self._counts = np.zeros(BLOCKS)
        self._done = 0

    def add(self, losses: list[float]) -> None:
        """Append the losses of consecutive steps."""
        self._curve.add(losses)
        each = np.asarray(losses) * self._factor
        steps = np.arange(self._done, self._done + len(losses))
        block = np.minimum(steps * BLOCKS // self._steps, BLOCKS - 1)
        np.add.at(self._sums, block, each)
        np.add.at(self._counts, block, 1)
        self._last.extend(each[steps >= self._steps - self._window].tolist())
        self._done += len(losses)

    @property
    def last(self) -> float:
        """Mean over the last items."""
        return float(np.mean(self._last)) if self._last else math.nan

    def record(self) -> dict[str, Any]:
        """Return the curve, blocks of equal length, and the means behind the claims."""
        points = self._curve.finished()
        lengths = np.diff([0, *(point.item for point in points)])
        means = np.array([point.loss for point in points])
        with np.errstate(invalid="ignore", over="ignore"):
            cumulated = np.cumsum(lengths * means) / np.cumsum(lengths)
        blocks = self._sums / np.maximum(self._counts, 1)
        return {
            "first": self._curve.first,
            "final": self._curve.last,
            "last": self.last,
            "cumulated": float(cumulated[-1]),
            "items": [point.item for point in points],
            "loss": [_short(value) for value in means],
            "cumulated_loss": [_short(value) for value in cumulated],
            "blocks": [_short(value) for value in blocks[self._counts > 0]],
        }


def _short(value: float) -> float:
    return float(f"{value:.5g}")


class Learning(NamedTuple):
    """A learning run, ready to begin.

    Attributes:
        task: Task.
        span: Number of items per update.
        replicas: Learners, one for each seed.
        streams: Streams, one for each learner.
    """

    task: Task
    span: int
    replicas: Replicas
    streams: list[Iterator[Any]]


def prepare(backend: Backend, settings: JobSettings) -> Learning:
    """Build task, learners and streams; call within the precision of the settings."""
    dtype, seeds = settings["dtype"], settings["seeds"]
    task = task_of(settings)
    choice = parse_estimator(settings["estimator"])
    span = choice.span or settings["items"]
    dynamics = backend.dynamics(partial(task.model.transition, backend.xp))
    starts = []
    for seed in seeds:
        start = task.model.init(np.random.default_rng(seed))
        cast = [map_host(lambda leaf: np.asarray(leaf, dtype), tree) for tree in start]
        starts.append((cast[0], cast[1]))
    replicas = Replicas(
        unroll(dynamics, span) if span > 1 else dynamics,
        choice.estimator,
        task.optimizer,
        starts,
        seeds=seeds,
    )

    return Learning(task, span, replicas, [task.stream(seed) for seed in seeds])


def learn(settings: JobSettings, report: Report) -> dict[str, Any]:
    """Run a learning job.

    Returns:
        ``replicas``: a record for each seed, from `Trace.record`; and facts about device and task.
    """
    backend = load_backend(settings["backend"], device=settings["device"])
    # Losses show that a run diverges; warnings of NumPy are not needed.
    with backend.precision(settings["dtype"]), np.errstate(over="ignore", invalid="ignore"):
        task, span, replicas, streams = prepare(backend, settings)
        steps = settings["items"] // span
        traces = [Trace(span, task.loss_scale, steps * span, settings["window"]) for _ in streams]

        def keep(first: int, losses: Losses) -> None:
            for trace, each in zip(traces, losses, strict=True):
                trace.add(each)
            report((first + len(losses[0])) / steps)

        chunk = max(1, (CHUNK if backend.compiled else EAGER_CHUNK) // span)
        replicas.run(streams, steps, chunk=chunk, report=keep)
    return {
        "device": backend.device,
        "entropy_rate": task.entropy_rate,
        "loss_name": task.loss_name,
        "task_settings": task.settings,
        "replicas": [trace.record() for trace in traces],
    }


def time_estimators(settings: JobSettings, report: Report) -> dict[str, Any]:
    """Time an item of several estimators, whose learners take turns.

    Returns:
        ``seconds_per_item``: for each estimator, one time for each round.
    """
    backend = load_backend(settings["backend"], device=settings["device"])
    names, rounds = settings["estimators"], settings["rounds"]
    took: dict[str, list[float]] = {name: [] for name in names}
    items = CHUNK if backend.compiled else EAGER_CHUNK
    with backend.precision(settings["dtype"]), np.errstate(over="ignore", invalid="ignore"):
        ready = {
            name: prepare(backend, settings | {"estimator": name, "seeds": [0], "items": items})
            for name in names
        }
        for number in range(rounds + 1):
            for name, (_, span, replicas, streams) in ready.items():
                steps = items // span
                begun = time.perf_counter()
                replicas.run(streams, steps, chunk=steps)
                took[name].append((time.perf_counter() - begun) / (steps * span))
            report((number + 1) / (rounds + 1))
    # The first round compiles.
    seconds = {name: [_short(each) for each in found[1:]] for name, found in took.items()}
    return {"device": backend.device, "seconds_per_item": seconds}
