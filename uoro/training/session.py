"""A run at work: the loop over chunks, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from uoro.errors import NonFiniteError, SettingError, StreamError
from uoro.estimators.auto import require_estimator
from uoro.learning.carry import Metrics
from uoro.learning.host_noise import SharedNoise
from uoro.learning.learner import Learner
from uoro.learning.log import LOGGER
from uoro.learning.stream import Growing
from uoro.monitors import Monitor
from uoro.training.metrics import OnMetrics
from uoro.training.problem import EAGER_CHUNK, Problem
from uoro.training.record import Live, Record
from uoro.training.saving import Saving
from uoro.training.settings import Settings
from uoro.training.tap import Tap

IDLE_SECONDS = 5.0
"""Seconds without input after which a checkpoint of what was learned is written."""


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
        state: ``"done"``, ``"stopped"`` for want of input, ``"failed"`` or ``"interrupted"``.
        reason: The same in words.
        step: Number of updates.
        recent: Recent loss.
        cumulated: Mean loss of the whole run.
        overhead: Part of the time spent on ``"checkpoints"``, ``"metrics"`` and ``"monitors"``.
        remarks: Lines on what else was measured and counted, such as errors by target, and gaps.
    """

    state: str
    reason: str
    step: int
    recent: float
    cumulated: float
    overhead: dict[str, float]
    remarks: tuple[str, ...] = ()


class _StopError(Exception):
    """Somebody asked the run to stop, between two chunks."""


class Session:
    """A run while it holds the lock of its folder.

    Args:
        folder: Folder of the run.
        settings: Complete settings.
        problem: Problem to learn.
        monitors: Monitors of the run.
        asked_to_stop: Called between two chunks, and while there is no input.
        watch: Called as often with the present state of the run.
        on_metrics: Functions that every line of metrics is handed to.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        problem: Problem,
        monitors: Sequence[Monitor],
        asked_to_stop: Callable[[], bool],
        watch: Callable[[Live], None],
        on_metrics: Sequence[OnMetrics] = (),
    ) -> None:
        self.settings, self.problem, self.monitors = settings, problem, monitors
        self.asked_to_stop, self.watch = asked_to_stop, watch
        assert problem.estimator is not None
        assert problem.optimizer is not None
        estimator = problem.estimator
        for monitor in self.monitors:
            estimator = monitor.wrap(estimator)
        signs = self._shared_signs(estimator) if settings.noise == "shared" else None
        self.learner = Learner(
            problem.dynamics,
            estimator,
            problem.optimizer,
            problem.params,
            problem.state,
            seed=settings.seed,
            signs=signs,
            on_nonfinite=settings.on_nonfinite,
        )
        as_made = settings.dtype == "as made"
        if problem.task is not None and problem.forecast is None:
            as_made = True
        self.tap = Tap(
            problem.backend,
            problem.stream,
            problem.dynamics.span,
            dtype=None if as_made else settings.dtype,
        )
        self.record = Record(folder, settings, problem, self.learner, on_metrics)
        self.saving = Saving(folder, settings, problem, self.learner, self.tap, self.record, signs)
        self.logged_at = 0
        self.stalled = False
        self.chunk = settings.chunk if problem.backend.compiled else EAGER_CHUNK
        # A stream that is still being written asks whether to wait for more.
        if isinstance(problem.stream, Growing):
            problem.stream.waiting = self._waiting
            # Its items are learned as they come, not a chunk later.
            self.chunk = self.chunk if problem.backend.compiled else 1

    def resume(self) -> None:
        """Continue from the newest checkpoint; see `Saving.resume`."""
        self.saving.resume()
        if self.learner.steps % self.settings.metrics.every == 0:
            self.logged_at = self.learner.steps

    def go(self) -> Ended:
        """Run to the end."""
        with self.record.open():
            try:
                state, reason = self._go_along()
            except _StopError:
                state, reason = "interrupted", "asked to stop"
            except (NonFiniteError, StreamError) as error:
                state, reason = "failed", str(error)
            except Exception as error:
                # An error of the user's model or stream: its author needs the whole traceback.
                self._end("failed", f"{type(error).__name__}: {error}")
                raise
            return self._end(state, reason)

    def _go_along(self) -> tuple[str, str]:
        learner, settings = self.learner, self.settings
        while settings.steps is None or learner.steps < settings.steps:
            target = self._next_stop()
            self.tap.mark()
            learner.run(self.tap, target - learner.steps, chunk=self.chunk, report=self._report)
            if learner.steps < target:
                if self.stalled:
                    return "stopped", f"no input for {settings.stall:g} s"
                self._require_not_asked()
                return "done", "the stream has ended"
            if learner.steps % settings.metrics.every == 0:
                self._log()
            if learner.steps % settings.checkpoints.every == 0:
                self.saving.save()
        return "done", f"{learner.steps} steps are done"

    def _next_stop(self) -> int:
        settings, step = self.settings, self.learner.steps
        stops = [
            (step // every + 1) * every
            for every in (settings.metrics.every, settings.checkpoints.every)
        ]
        return min(stops if settings.steps is None else [*stops, settings.steps])

    def _report(self, metrics: Metrics) -> None:
        self.record.take(metrics.losses)
        self.watch(self.record.live(0.0))
        self._require_not_asked()

    def _require_not_asked(self) -> None:
        if self.asked_to_stop():
            raise _StopError

    def _waiting(self, seconds: float) -> bool:
        """Return whether to wait longer for input."""
        self.record.tick()
        if seconds > IDLE_SECONDS and self.saving.tried_at != self.learner.steps:
            self.saving.save()
        self.watch(self.record.live(seconds))
        self.stalled = self.settings.stall is not None and seconds >= self.settings.stall
        return not (self.stalled or self.asked_to_stop())

    def _log(self, *, partial: bool = False) -> None:
        """Write a line of metrics, with the monitors' measurements."""
        learner = self.learner
        seen: dict[str, float] = {}
        self.record.tick()
        if self.monitors and self.tap.newest is not None:
            with self.record.spent_on("monitors"):
                item = self.problem.backend.from_host(self.tap.newest)
                for monitor in self.monitors:
                    seen |= monitor.measure(
                        self.problem.dynamics,
                        learner.estimator,
                        learner.params,
                        learner.carry,
                        learner.state,
                        item,
                    )
        with self.record.spent_on("metrics"):
            self.record.write_line(seen, partial=partial)
        self.logged_at = learner.steps

    def _shared_signs(self, estimator: Any) -> SharedNoise | None:
        state = self.problem.backend.to_host(self.problem.state)
        draw = require_estimator("train(noise='shared')", estimator).draw
        try:
            signs = SharedNoise(draw, state, self.settings.seed)
            return signs if signs.used else None
        except (TypeError, AttributeError) as error:
            raise SettingError(
                "train(noise='shared'): expected a state that is one array or nested dictionaries "
                f"of arrays, got another one ({error}). Try noise='own'."
            ) from error

    def _end(self, state: str, reason: str) -> Ended:
        record, step = self.record, self.learner.steps
        record.tick()
        if self.logged_at != step:
            self._log(partial=step % self.settings.metrics.every != 0)
        error = self.saving.save() if self.saving.saved_at != step else None
        if error is not None:
            state, reason = "failed", f"{reason}, but the last checkpoint is missing: {error}"
        if not record.flush():
            state, reason = "failed", f"{reason}, but lines of metrics could not be written"
        record.write_status(state, reason)
        (LOGGER.error if state == "failed" else LOGGER.info)("%s: %s", state, reason)
        record.draw()
        meter = record.meter
        means = meter.recent, meter.cumulated
        return Ended(state, reason, step, *means, record.overhead(), record.remarks())
