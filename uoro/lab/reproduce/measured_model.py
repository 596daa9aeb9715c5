"""The model under measurement: a task on a backend, with its stream and its signs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from uoro.algebra import entry, repeat
from uoro.backend import Backend
from uoro.derivatives.routes import probe
from uoro.estimator import Estimator
from uoro.estimators import UORO
from uoro.estimators.streams import Streams
from uoro.lab.jobs import JobSettings, Report
from uoro.lab.reproduce.learning import CHUNK, EAGER_CHUNK, Trace, task_of
from uoro.learning.carry import Metrics
from uoro.learning.host_noise import map_host
from uoro.learning.learner import Learner
from uoro.learning.stream import read
from uoro.registry import load_backend


class MeasuredModel:
    """The model of a task on a backend, with its initial parameters and state.

    Args:
        settings: Settings of a job; ``seed`` determines the network and the signs.
    """

    def __init__(self, settings: JobSettings) -> None:
        self.backend: Backend = load_backend(settings["backend"], device=settings["device"])
        self.task = task_of(settings)
        self.seed: int = settings["seed"]
        dtype = settings["dtype"]
        start = self.task.model.init(np.random.default_rng(self.seed))
        self.params, self.state = (
            self.backend.from_host(map_host(lambda leaf: np.asarray(leaf, dtype), tree))
            for tree in start
        )
        self.dynamics = self.backend.dynamics(partial(self.task.model.transition, self.backend.xp))

    def items(self, count: int, *, start: int = 0) -> Any:
        """Return items of the stream as one stack."""
        stream = self.task.stream(self.seed)
        stream.take(start)
        stack, _ = read(self.backend, stream, count)
        probe(self.dynamics, self.params, self.state, entry(self.backend, stack, 0))
        return stack

    def train(self, stops: list[int], report: Report) -> tuple[list[Any], float]:
        """Train with UORO on the stream.

        Returns:
            The params after each number of items, and the mean loss over the last tenth.
        """
        learner = Learner(
            self.dynamics, UORO(), self.task.optimizer, self.params, self.state, seed=self.seed
        )
        stream = iter(self.task.stream(self.seed))
        kept = []
        trace = Trace(1, self.task.loss_scale, max(1, stops[-1]), max(1, stops[-1] // 10))

        def note(metrics: Metrics) -> None:
            trace.add(metrics.losses)
            report(metrics.first_step / max(1, stops[-1]))

        for stop in stops:
            learner.run(
                stream,
                stop - learner.steps,
                chunk=CHUNK if self.backend.compiled else EAGER_CHUNK,
                report=note,
            )
            kept.append(learner.params)
        return kept, trace.last

    def draw(self, estimator: Estimator, number: int, *counts: int) -> Any:
        """Draw independent signs of an estimator, as nested stacks.

        Args:
            estimator: Estimator.
            number: Number of the draw; draws of different numbers are independent.
            counts: Lengths of the stacks, the outermost first.
        """
        like = self.state
        for count in reversed(counts):
            estimator, like = Streams(estimator, count), repeat(self.backend, like, count)
        key = self.backend.fold(self.backend.key(self.seed + 1), number)
        return estimator.draw(partial(self.backend.random, key), like)
