"""What a run writes about itself: lines of metrics, its status, and a figure."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from uoro.errors import CheckpointError, UOROError
from uoro.files.resident import resident
from uoro.learning.learner import Learner
from uoro.learning.log import LOGGER
from uoro.training.curve import METRICS
from uoro.training.figure import draw_runs
from uoro.training.forecast_figure import draw_forecast
from uoro.training.log import MetricsLog
from uoro.training.meter import Meter
from uoro.training.metrics import OnMetrics
from uoro.training.problem import Problem
from uoro.training.scores import Scores
from uoro.training.settings import Settings
from uoro.training.status import write_status
from uoro.training.tensorboard import TensorBoardWriter

FIGURE, FORECAST, BOARD = "curve.png", "forecast.png", "tensorboard"
STATUS_SECONDS = 2.0
"""Seconds between two writes of the status of a run at work."""
_THROUGHPUT_SECONDS = 0.5
_COSTS = ("checkpoints", "metrics", "monitors")


class Live(NamedTuple):
    """Present state of a run, for whoever watches.

    Attributes:
        step: Number of updates.
        items: Number of items of the stream that they took.
        throughput: Items a second, recently.
        recent: Recent loss.
        cumulated: Mean loss of the whole run.
        waiting: Seconds since the run began to wait for input; 0 while it works.
    """

    step: int
    items: int
    throughput: float
    recent: float
    cumulated: float
    waiting: float


class Record:
    """Metrics, status and figure of a run, and the time that it took.

    A full disk does not end a run: lines of metrics wait in memory, status and figure are written
    again later.

    Args:
        folder: Folder of the run.
        settings: Complete settings.
        problem: Problem of the run.
        learner: Learner of the run.
        on_metrics: Functions that every line of metrics is handed to.

    Attributes:
        meter: Means of the loss.
        scores: Errors of predictions made ahead of time, if there are any.
        seconds: Seconds that the run was at work, in all its lives.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        problem: Problem,
        learner: Learner,
        on_metrics: Sequence[OnMetrics] = (),
    ) -> None:
        self._folder, self._settings = folder, settings
        self._problem, self._learner = problem, learner
        self._span = problem.dynamics.span
        self.meter = Meter(self._span, problem.loss_scale, settings.metrics.recent)
        forecast = problem.forecast
        self.scores = None if forecast is None else Scores(forecast, settings.metrics.recent)
        self._log = MetricsLog(folder / METRICS)
        self._on_metrics = list(on_metrics)
        self._spent: dict[str, float] = dict.fromkeys(_COSTS, 0.0)
        self._started = _now()
        self._counted = (0, 0)
        self.seconds = 0.0
        self._clock = time.perf_counter()
        self._line_at = (0, 0.0)
        self._throughput = math.nan
        self._status_at = 0.0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Open the files, until the run ends."""
        self.write_status("running", "")
        self._clock = time.perf_counter()
        self._line_at = self._learner.steps, self.seconds
        self._counted = self._learner.skipped, self._learner.resets
        if not self._settings.metrics.tensorboard:
            yield
            return
        with TensorBoardWriter(self._folder / BOARD) as board:
            self._on_metrics.append(board.on_metrics)
            yield

    def begin_anew(self) -> None:
        """Drop the metrics of a run that left no checkpoint."""
        self._log.truncate_after(0)

    def restore(self, document: dict[str, Any], step: int) -> None:
        """Load what `export` returned after ``step`` steps."""
        self.meter.restore(document["meter"])
        if self.scores is not None:
            self.scores.restore(document["scores"])
        self.seconds = self._status_at = _seconds(document["seconds"])
        self._spent = {name: _seconds(document["spent"][name]) for name in _COSTS}
        self._started = str(document["started"])
        self._log.truncate_after(step)

    def export(self) -> dict[str, Any]:
        """Return the means and times, as JSON holds them."""
        return {
            "meter": self.meter.export(),
            "seconds": self.seconds,
            "spent": dict(self._spent),
            "started": self._started,
            "scores": None if self.scores is None else self.scores.export(),
        }

    def tick(self) -> None:
        """Add the time since the last call to the time of the run."""
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now

    @contextmanager
    def spent_on(self, what: str) -> Iterator[None]:
        """Count the time of a block as spent on ``what``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[what] += time.perf_counter() - began

    def overhead(self) -> dict[str, float]:
        """Return the part of the time that each cost took."""
        return {name: spent / max(self.seconds, 1e-9) for name, spent in self._spent.items()}

    def take(self, losses: list[float]) -> None:
        """Add the losses of steps to the means, and write the events among them."""
        learner = self._learner
        if self.scores is not None:
            # A skipped step leaves the carry as it is.
            count = len(losses) - (learner.skipped - self._counted[0])
            span, backend = self._span, learner.backend
            losses = self.scores.take(backend, learner.carry, count * span, span)
        self.meter.add(losses)
        counts = learner.skipped, learner.resets
        for kind, now, before in zip(("skipped", "reset"), counts, self._counted, strict=True):
            if now > before:
                self.event(kind, count=now)
        self._counted = counts
        self.tick()
        if self.seconds > self._status_at + STATUS_SECONDS:
            self.write_status("running", "")

    def live(self, waiting: float) -> Live:
        """Return the present state of the run."""
        step, seconds = self._line_at
        if self.seconds > seconds + _THROUGHPUT_SECONDS:
            self._throughput = (self._learner.steps - step) * self._span / (self.seconds - seconds)
        place = self._place()
        return Live(
            place["step"],
            place["items"],
            self._throughput,
            self.meter.recent,
            self.meter.cumulated,
            waiting,
        )

    def event(self, kind: str, **more: Any) -> None:
        """Write a line for an event."""
        self._log.write(self._place() | {"event": kind} | more)

    def write_line(self, seen: dict[str, float], *, partial: bool = False) -> None:
        """Write a line of metrics.

        Args:
            seen: Measurements of the monitors.
            partial: Whether the run ended between two lines; a resumed run drops such a line.
        """
        self.tick()
        step, seconds = self._line_at
        taken = self._learner.steps - step
        if taken:
            self._throughput = taken * self._span / max(self.seconds - seconds, 1e-9)
        memory = resident()
        record = self._place() | {
            "seconds": round(self.seconds, 3),
            "loss": self.meter.line,
            "recent": self.meter.recent,
            "cumulated": self.meter.cumulated,
            "throughput": round(self._throughput, 1),
            "skipped": self._learner.skipped,
            "resets": self._learner.resets,
            "malformed": getattr(self._problem.stream, "skipped", 0),
            "resident": None if memory is None else round(memory / 2**20, 1),
        }
        record |= self._counts()
        if self.scores is not None:
            record |= self.scores.measure()
        self._log.write(record | seen | ({"partial": True} if partial else {}))
        for on_metrics in self._on_metrics:
            on_metrics(self._learner.steps, record | seen)
        if not partial:
            self.meter.next_line()
        self._line_at = self._learner.steps, self.seconds

    def remarks(self) -> tuple[str, ...]:
        """Return lines on the errors by target, and on what the stream has counted."""
        counts = self._counts() | {"malformed": getattr(self._problem.stream, "skipped", 0)}
        words = [f"{name} {count:,}" for name, count in counts.items() if count]
        counted = [f"counted: {', '.join(words)}"] if self._counts() else []
        return (*(self.scores.lines() if self.scores is not None else ()), *counted)

    def flush(self) -> bool:
        """Write the lines that wait in memory; return whether none is left."""
        return self._log.flush()

    def write_status(self, state: str, reason: str) -> None:
        """Write the status, if it can be written."""
        self._status_at = self.seconds
        problem, learner = self._problem, self._learner
        status = self._place() | {
            "state": state,
            "reason": reason,
            "started": self._started,
            "updated": _now(),
            "steps_wanted": self._settings.steps,
            "seconds": round(self.seconds, 3),
            "overhead": self.overhead(),
            "recent": self.meter.recent,
            "cumulated": self.meter.cumulated,
            "skipped": learner.skipped,
            "resets": learner.resets,
            "malformed": getattr(problem.stream, "skipped", 0),
            "loss_name": problem.loss_name,
            "entropy_rate": problem.entropy_rate,
            "title": problem.title,
            "backend": problem.backend.name,
            "device": problem.backend.device,
            "estimator": self._settings.estimator,
        }
        if self.scores is not None:
            status |= self._counts() | self.scores.measure()
        try:
            write_status(self._folder, status)
        except CheckpointError as error:
            LOGGER.warning("%s", error)

    def draw(self) -> None:
        """Draw the figure, if there are metrics and it can be written."""
        if not (self._folder / METRICS).exists():
            return
        try:
            draw_runs(self._folder / FIGURE, [self._folder])
            if self.scores is not None and self._learner.steps:
                draw_forecast(self._folder / FORECAST, self._problem.title, self.scores)
        except (OSError, UOROError) as error:
            LOGGER.warning("%s cannot be drawn: %s", FIGURE, error)

    def _counts(self) -> dict[str, Any]:
        """Return what the stream has counted, such as gaps."""
        return dict(getattr(self._problem.stream, "counts", {}))

    def _place(self) -> dict[str, int]:
        return {"step": self._learner.steps, "items": self._learner.steps * self._span}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"expected a time in seconds, got {value!r}")
    return seconds
