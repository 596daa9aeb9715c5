"""What a run writes down about itself: lines of metrics, how it stands, and a figure."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
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
from uoro.training.log import MetricsLog
from uoro.training.meter import Meter
from uoro.training.problem import Problem
from uoro.training.settings import Settings
from uoro.training.status import write_status
from uoro.training.tensorboard import TensorBoardWriter

FIGURE, BOARD = "curve.png", "tensorboard"
STATUS_SECONDS = 2.0
"""How often a run that is at work says how it stands."""
_RATE_SECONDS = 0.5
_COSTS = ("checkpoints", "metrics", "monitors")


class Live(NamedTuple):
    """How a run stands, for whoever watches.

    Attributes:
        step: How many updates were made.
        items: How many items of the stream they took.
        rate: Items a second, lately.
        recent: The recent loss.
        cumulated: That of the whole run.
        waiting: For how many seconds it has been waiting for input; 0 if it is at work.
    """

    step: int
    items: int
    rate: float
    recent: float
    cumulated: float
    waiting: float


class Record:
    """Keep the metrics, the status and the figure of a run, and the time that it took.

    A disk that is full is no reason to end a run: lines wait in memory, the rest is tried again.

    Args:
        folder: The run's folder.
        settings: The run's.
        problem: What it works on.
        learner: At work on it.

    Attributes:
        meter: The loss.
        seconds: For how long the run was at work, in all its lives.
    """

    def __init__(
        self, folder: Path, settings: Settings, problem: Problem, learner: Learner
    ) -> None:
        self._folder, self._settings = folder, settings
        self._problem, self._learner = problem, learner
        self._span = problem.dynamics.span
        self.meter = Meter(self._span, problem.loss_scale, settings.metrics.recent)
        self._log = MetricsLog(folder / METRICS)
        self._board: TensorBoardWriter | None = None
        self._spent: dict[str, float] = dict.fromkeys(_COSTS, 0.0)
        self._started = _now()
        self._counted = (0, 0)
        self.seconds = 0.0
        self._clock = time.perf_counter()
        self._line_at = (0, 0.0)
        self._rate = math.nan
        self._status_at = 0.0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Begin to write."""
        self.write_status("running", "")
        self._clock = time.perf_counter()
        self._line_at = self._learner.steps, self.seconds
        self._counted = self._learner.skipped, self._learner.resets
        if not self._settings.metrics.tensorboard:
            yield
            return
        with TensorBoardWriter(self._folder / BOARD) as self._board:
            yield

    def begin_anew(self) -> None:
        """Drop what was written by a run that left no checkpoint."""
        self._log.truncate_after(0)

    def restore(self, document: dict[str, Any], step: int) -> None:
        """Go on from what `export` gave after so many steps."""
        self.meter.restore(document["meter"])
        self.seconds = self._status_at = _seconds(document["seconds"])
        self._spent = {name: _seconds(document["spent"][name]) for name in _COSTS}
        self._started = str(document["started"])
        self._log.truncate_after(step)

    def export(self) -> dict[str, Any]:
        """Give what it holds, as JSON can say it."""
        return {
            "meter": self.meter.export(),
            "seconds": self.seconds,
            "spent": dict(self._spent),
            "started": self._started,
        }

    def tick(self) -> None:
        """Count the time since this was last called as the run's."""
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now

    @contextmanager
    def spent_on(self, what: str) -> Iterator[None]:
        """Count time as spent on something."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[what] += time.perf_counter() - began

    def overhead(self) -> dict[str, float]:
        """Say what part of the time went into what."""
        return {name: spent / max(self.seconds, 1e-9) for name, spent in self._spent.items()}

    def take(self, losses: list[float]) -> None:
        """Take in the losses of steps, and write what happened in them."""
        self.meter.add(losses)
        learner = self._learner
        counts = learner.skipped, learner.resets
        for kind, now, before in zip(("skipped", "reset"), counts, self._counted, strict=True):
            if now > before:
                self.event(kind, count=now)
        self._counted = counts
        self.tick()
        if self.seconds > self._status_at + STATUS_SECONDS:
            self.write_status("running", "")

    def live(self, waiting: float) -> Live:
        """Say how the run stands."""
        step, seconds = self._line_at
        if self.seconds > seconds + _RATE_SECONDS:
            self._rate = (self._learner.steps - step) * self._span / (self.seconds - seconds)
        place = self._place()
        return Live(
            place["step"],
            place["items"],
            self._rate,
            self.meter.recent,
            self.meter.cumulated,
            waiting,
        )

    def event(self, kind: str, **more: Any) -> None:
        """Write that something happened."""
        self._log.write(self._place() | {"event": kind} | more)

    def write_line(self, seen: dict[str, float], *, partial: bool = False) -> None:
        """Write a line of metrics.

        Args:
            seen: What the monitors saw.
            partial: Whether it is the last one, off the beat; if the run goes on it is dropped.
        """
        self.tick()
        step, seconds = self._line_at
        taken = self._learner.steps - step
        if taken:
            self._rate = taken * self._span / max(self.seconds - seconds, 1e-9)
        carry = resident()
        record = self._place() | {
            "seconds": round(self.seconds, 3),
            "loss": self.meter.line,
            "recent": self.meter.recent,
            "cumulated": self.meter.cumulated,
            "rate": round(self._rate, 1),
            "skipped": self._learner.skipped,
            "resets": self._learner.resets,
            "malformed": getattr(self._problem.stream, "skipped", 0),
            "resident": None if carry is None else round(carry / 2**20, 1),
        }
        self._log.write(record | seen | ({"partial": True} if partial else {}))
        if self._board is not None:
            self._board.write(self._learner.steps, record | seen)
        if not partial:
            self.meter.next_line()
        self._line_at = self._learner.steps, self.seconds

    def flush(self) -> bool:
        """Write the lines that wait; say whether none is left."""
        return self._log.flush()

    def write_status(self, state: str, reason: str) -> None:
        """Write how the run stands, if that can be written."""
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
        try:
            write_status(self._folder, status)
        except CheckpointError as error:
            LOGGER.warning("%s", error)

    def draw(self) -> None:
        """Draw the figure, if there is anything to draw and it can be written."""
        if not (self._folder / METRICS).exists():
            return
        try:
            draw_runs(self._folder / FIGURE, [self._folder])
        except (OSError, UOROError) as error:
            LOGGER.warning("%s cannot be drawn: %s", FIGURE, error)

    def _place(self) -> dict[str, int]:
        return {"step": self._learner.steps, "items": self._learner.steps * self._span}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"{value!r} is no time in seconds")
    return seconds
