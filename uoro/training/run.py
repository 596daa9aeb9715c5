"""A run: a learner at work on a stream, with a folder in which nothing is lost."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uoro.checkpoint.folder import Checkpoints
from uoro.checkpoint.lock import run_lock
from uoro.checkpoint.snapshot import Snapshot
from uoro.errors import (
    CheckpointError,
    NonFiniteError,
    SettingError,
    StreamError,
    StructureError,
    UOROError,
)
from uoro.experiments.record import made_with
from uoro.host_noise import SharedNoise
from uoro.learner import Learner
from uoro.log import LOGGER
from uoro.metrics import Metrics
from uoro.monitors import make_monitor
from uoro.saved import Saved
from uoro.speed.resident import resident
from uoro.stream import Windows
from uoro.training.curve import METRICS
from uoro.training.figure import draw_runs
from uoro.training.log import MetricsLog
from uoro.training.meter import Meter
from uoro.training.problem import make_problem
from uoro.training.settings import (
    SETTINGS,
    Settings,
    changes,
    read_settings,
    write_settings,
)
from uoro.training.status import write_status
from uoro.training.tap import Tap, alike
from uoro.training.tensorboard import TensorBoardWriter

CHECKPOINTS, FIGURE, LOG, BOARD = "checkpoints", "curve.png", "log.txt", "tensorboard"
IDLE_SECONDS = 5.0
"""After how long without input what was learned is brought to disk."""
STATUS_SECONDS = 2.0
EAGER_CHUNK = 16


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


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
        state: ``"done"``, ``"stopped"`` for want of input, ``"failed"`` or ``"interrupted"``.
        reason: In words.
        step: How many updates were made.
        recent: The recent loss.
        cumulated: That of the whole run.
        overhead: What part of the time went into ``"checkpoints"``, ``"metrics"`` and
            ``"monitors"``.
    """

    state: str
    reason: str
    step: int
    recent: float
    cumulated: float
    overhead: dict[str, float]


class _StopError(Exception):
    """Somebody asked the run to stop, between two chunks."""


class Run:
    """Train as the settings say, and write down how it goes.

    The folder holds ``config.toml``, ``run.json``, ``metrics.jsonl``, ``log.txt``,
    ``checkpoints/`` and, once it has ended, ``curve.png``. It can be given to `Run` again
    with ``resume``, however the run ended.

    Args:
        settings: What to do; of a run that goes on, ``None`` for what it did before.
        folder: Where to write; made if it is missing.
        resume: Whether to go on with the run that is there.
        force: Whether to go on with other settings than before.

    Raises:
        SettingError: If there is a run already, or none to go on with, or the settings changed.
    """

    def __init__(
        self,
        settings: Settings | None,
        folder: Path,
        *,
        resume: bool = False,
        force: bool = False,
    ) -> None:
        self.folder = folder
        self._resume = resume
        before = _settings_of(folder) if (folder / SETTINGS).exists() else None
        if before is None and (resume or settings is None):
            raise SettingError(
                f"train --resume {folder}: there is no run in this folder, as it has no "
                f"{SETTINGS}. Leave --resume out to begin one."
            )
        if before is not None and not resume:
            raise SettingError(
                f"train --out {folder}: there is a run in this folder. Go on with it by --resume "
                f"{folder}, or give another folder."
            )
        settings = settings or before
        assert settings is not None
        self._problem, self.settings = make_problem(settings)
        changed = [] if before is None else changes(before, self.settings)
        if changed and not force:
            raise SettingError(
                f"train --resume {folder}: the settings are not those of the run: "
                f"{'; '.join(changed)}. Leave them as they were, begin another run, or say --force "
                "to go on with the new ones."
            )
        self._changed = changed
        self._monitors = [make_monitor(name) for name in self.settings.monitors]

    @property
    def title(self) -> str:
        """What is being done, in one line."""
        return self._problem.title

    @property
    def loss_name(self) -> str:
        """What the loss is, with its unit."""
        return self._problem.loss_name

    def go(
        self,
        *,
        asked_to_stop: Callable[[], bool] = lambda: False,
        watch: Callable[[Live], None] = lambda live: None,
    ) -> Ended:
        """Run until the steps are done, the stream ends, or somebody asks to stop.

        Args:
            asked_to_stop: Asked between two chunks, and while there is no input.
            watch: Told how it stands, as often.

        Returns:
            How it ended. Numbers that are not finite, and a stream that cannot be read on, end a
            run as ``"failed"``: its folder says so, and it can be gone on with.

        Raises:
            LockedError: If another run is at work in the folder.
            CheckpointError: If the folder cannot be written to, or no checkpoint is whole.
            StructureError: If the checkpoint is of another model, estimator or optimizer.
        """
        with ExitStack() as stack:
            stack.enter_context(run_lock(self.folder))
            if not self._resume and (self.folder / SETTINGS).exists():
                raise SettingError(
                    f"train --out {self.folder}: somebody has begun a run in this folder just now. "
                    "Give another folder."
                )
            stack.enter_context(_logging_to(self.folder / LOG))
            for name in self._changed:
                LOGGER.warning("going on with another setting: %s", name)
            write_settings(self.folder, self.settings)
            precision = self._problem.backend.precision(self.settings.dtype)
            if self.settings.dtype != "as made":
                stack.enter_context(precision)
            # NumPy would warn of overflows; a loss that is not finite is found and named anyway.
            stack.enter_context(np.errstate(over="ignore", invalid="ignore"))
            return _Work(self, self.folder, asked_to_stop, watch, stack).go(self._resume)


class _Work:
    """A run while it holds its lock."""

    def __init__(
        self,
        run: Run,
        folder: Path,
        asked_to_stop: Callable[[], bool],
        watch: Callable[[Live], None],
        stack: ExitStack,
    ) -> None:
        problem, settings = run._problem, run.settings
        assert problem.estimator is not None
        assert problem.optimizer is not None
        self.settings, self.problem = settings, problem
        self.folder, self.stack = folder, stack
        self.asked_to_stop, self.watch = asked_to_stop, watch
        self.monitors = run._monitors
        estimator = problem.estimator
        for monitor in self.monitors:
            estimator = monitor.wrap(estimator)
        self.noise = self._shared_noise(estimator) if settings.noise == "shared" else None
        self.learner = Learner(
            problem.dynamics,
            estimator,
            problem.optimizer,
            problem.params,
            problem.state,
            seed=settings.seed,
            noise=self.noise,
            on_nonfinite=settings.on_nonfinite,
        )
        self.span = problem.dynamics.span
        backend = problem.backend
        items = alike(backend, problem.stream)
        self.tap = Tap(backend, Windows(backend, items, self.span) if self.span > 1 else items)
        self.meter = Meter(self.span, problem.loss_scale, settings.metrics.recent)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, settings.checkpoints.keep)
        self.log = MetricsLog(folder / METRICS)
        self.board: TensorBoardWriter | None = None
        self.seconds = 0.0
        self.spent = {"checkpoints": 0.0, "metrics": 0.0, "monitors": 0.0}
        self.started = _now()
        self.saved_at = -1
        self.stalled = False
        self.counted = (0, 0)
        self.line_at = (0, 0.0)
        self.rate = math.nan
        self.status_at = 0.0
        self.clock = time.perf_counter()

    def go(self, resume: bool) -> Ended:
        """Take the run up, go along, and bring it to an end."""
        # One that is still being written waits for more; it asks whether to.
        stream: Any = self.problem.stream
        if hasattr(stream, "waiting"):
            stream.waiting = self._waiting
        if resume:
            self._take_up()
        settings = self.settings
        if settings.metrics.tensorboard:
            self.board = self.stack.enter_context(TensorBoardWriter(self.folder / BOARD))
        self._write_status("running", "")
        self.clock = time.perf_counter()
        self.line_at = (self.learner.steps, self.seconds)
        try:
            state, reason = self._go_along()
        except _StopError:
            state, reason = "interrupted", "asked to stop"
        except (NonFiniteError, StreamError) as error:
            state, reason = "failed", str(error)
        except Exception as error:
            # The model's or the stream's own: whoever wrote it will want to see all of it.
            self._end("failed", f"{type(error).__name__}: {error}")
            raise
        return self._end(state, reason)

    def _go_along(self) -> tuple[str, str]:
        learner, settings = self.learner, self.settings
        chunk = settings.chunk if self.problem.backend.compiled else EAGER_CHUNK
        while settings.steps is None or learner.steps < settings.steps:
            target = self._next_stop()
            before = learner.steps
            learner.run(self.tap, target - before, chunk=chunk, report=self._report)
            if learner.steps < target and learner.steps == before:
                if self.stalled:
                    return "stopped", f"no input for {settings.stall:g} s"
                self._require_not_asked()
                return "done", "the stream has ended"
            if learner.steps % settings.metrics.every == 0:
                self._write_line()
            if learner.steps % settings.checkpoints.every == 0:
                self._save()
        return "done", f"{learner.steps} steps are done"

    def _next_stop(self) -> int:
        settings, step = self.settings, self.learner.steps
        stops = [
            (step // every + 1) * every
            for every in (settings.metrics.every, settings.checkpoints.every)
        ]
        return min(stops if settings.steps is None else [*stops, settings.steps])

    def _report(self, metrics: Metrics) -> None:
        self.meter.add(metrics.losses)
        learner = self.learner
        if (learner.skipped, learner.resets) != self.counted:
            for name, now, before in zip(
                ("skipped", "reset"), (learner.skipped, learner.resets), self.counted, strict=True
            ):
                if now > before:
                    self.log.write(self._place() | {"event": name, "count": now})
            self.counted = (learner.skipped, learner.resets)
        self._tick()
        self.watch(self._live(0.0))
        if self.seconds > self.status_at + STATUS_SECONDS:
            self._write_status("running", "")
        self._require_not_asked()

    def _require_not_asked(self) -> None:
        if self.asked_to_stop():
            raise _StopError

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self.clock
        self.clock = now

    def _live(self, waiting: float) -> Live:
        step, seconds = self.line_at
        if self.seconds > seconds + 0.5:
            self.rate = (self.learner.steps - step) * self.span / (self.seconds - seconds)
        place = self.learner.steps, self.learner.steps * self.span
        return Live(*place, self.rate, self.meter.recent, self.meter.cumulated, waiting)

    def _place(self) -> dict[str, Any]:
        return {"step": self.learner.steps, "items": self.learner.steps * self.span}

    def _waiting(self, seconds: float) -> bool:
        """Say whether to go on waiting for input."""
        self._tick()
        if seconds > IDLE_SECONDS and self.saved_at != self.learner.steps and self.learner.steps:
            self._save()
        self.watch(self._live(seconds))
        self.stalled = self.settings.stall is not None and seconds >= self.settings.stall
        return not (self.stalled or self.asked_to_stop())

    def _write_line(self) -> None:
        """Write a line of metrics, with what the monitors see."""
        self._tick()
        began = time.perf_counter()
        learner = self.learner
        seen: dict[str, float] = {}
        if self.monitors and self.tap.newest is not None:
            item = self.problem.backend.from_host(self.tap.newest)
            for monitor in self.monitors:
                seen |= monitor.measure(
                    self.problem.dynamics,
                    learner.estimator,
                    learner.params,
                    learner.memory,
                    learner.state,
                    item,
                )
        middle = time.perf_counter()
        step, seconds = self.line_at
        self.rate = (learner.steps - step) * self.span / max(self.seconds - seconds, 1e-9)
        memory = resident()
        record = self._place() | {
            "seconds": round(self.seconds, 3),
            "loss": self.meter.line(),
            "recent": self.meter.recent,
            "cumulated": self.meter.cumulated,
            "rate": round(self.rate, 1),
            "skipped": learner.skipped,
            "resets": learner.resets,
            "malformed": getattr(self.problem.stream, "skipped", 0),
            "resident": None if memory is None else round(memory / 2**20, 1),
        }
        self.log.write(record | seen)
        if self.board is not None:
            self.board.write(learner.steps, record | seen)
        self.line_at = (learner.steps, self.seconds)
        self.spent["monitors"] += middle - began
        self.spent["metrics"] += time.perf_counter() - middle

    def _save(self) -> CheckpointError | None:
        """Write a checkpoint; a disk that is full is not the end of the run."""
        if self.tap.items != self.learner.steps:
            # Items were drawn that nothing was learned from: that is no place to go on from.
            return None
        self._tick()
        began = time.perf_counter()
        try:
            saved = self.learner.export()
            if not _is_finite(saved):
                LOGGER.warning(
                    "no checkpoint at step %d: what it would hold is not finite",
                    self.learner.steps,
                )
                return None
            self.checkpoints.save(self.learner.steps, Snapshot(saved.arrays, self._document(saved)))
            self.saved_at = self.learner.steps
        except CheckpointError as error:
            LOGGER.warning("%s The run goes on, and tries again at the next one.", error)
            self.log.write(self._place() | {"event": "checkpoint failed"})
            return error
        finally:
            self.spent["checkpoints"] += time.perf_counter() - began
        return None

    def _document(self, saved: Saved) -> dict[str, Any]:
        return {
            "kind": "uoro training run",
            "settings": self.settings.table(),
            "learner": saved.counts,
            "stream": self.tap.position,
            "meter": self.meter.export(),
            "seconds": self.seconds,
            "spent": self.spent,
            "started": self.started,
            "alphabet": None if self.problem.task is None else self.problem.task.alphabet,
            "made_with": made_with(self.problem.backend.name),
        }

    def _take_up(self) -> None:
        """Go back to the newest checkpoint that is whole; without one, to the beginning."""
        found = self.checkpoints.latest()
        if found is None:
            LOGGER.info("there is no checkpoint yet: starting from the beginning")
            self.log.truncate_after(0)
            return
        document, call = found.snapshot.document, f"train --resume {self.folder}"
        try:
            saved = Saved(found.snapshot.arrays, document["learner"])
            self.learner.restore(saved, inputs=self._example(saved))
            self.saved_at = self.learner.steps
            self.tap.seek(document["stream"])
            self.meter.restore(document["meter"])
            self.seconds = self.status_at = float(document["seconds"])
            self.spent |= {name: float(document["spent"][name]) for name in self.spent}
            self.started = str(document["started"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, UOROError):
                raise
            raise StructureError(
                f"{call}: {found.path.name} is not of a run like this one ({type(error).__name__}: "
                f"{error})."
            ) from error
        step = self.learner.steps
        if self.noise is not None:
            self.noise.seek(step)
        self.counted = (self.learner.skipped, self.learner.resets)
        self.log.truncate_after(step)
        LOGGER.info("going on from %s", found.path.name)

    def _example(self, saved: Saved) -> Any:
        """Give an item for its shape, where the estimator stores items."""
        stored = {
            name.removeprefix("memory/inputs/"): array[0]
            for name, array in saved.arrays.items()
            if name.startswith("memory/inputs/")
        }
        return stored or None

    def _shared_noise(self, estimator: Any) -> SharedNoise | None:
        state = self.problem.backend.to_host(self.problem.state)
        try:
            noise = SharedNoise(estimator.draw, state, self.settings.seed)
            return noise if noise.used else None
        except (TypeError, AttributeError) as error:
            raise SettingError(
                "train(noise='shared'): the state must be one array or nested dictionaries of "
                f"arrays ({error}). Take noise='own'."
            ) from error

    def _end(self, state: str, reason: str) -> Ended:
        self._tick()
        learner = self.learner
        if learner.steps and self.line_at[0] != learner.steps:
            self._write_line()
        error = None
        if learner.steps and self.saved_at != learner.steps:
            error = self._save()
        if error is not None:
            state, reason = "failed", f"{reason}, but the last checkpoint is missing: {error}"
        if not self.log.flush():
            state, reason = "failed", f"{reason}, but lines of metrics could not be written"
        self._write_status(state, reason)
        (LOGGER.error if state == "failed" else LOGGER.info)("%s: %s", state, reason)
        if (self.folder / METRICS).exists():
            try:
                draw_runs(self.folder / FIGURE, [self.folder])
            except (OSError, UOROError) as error:
                LOGGER.warning("%s cannot be drawn: %s", FIGURE, error)
        total = max(self.seconds, 1e-9)
        return Ended(
            state,
            reason,
            learner.steps,
            self.meter.recent,
            self.meter.cumulated,
            {name: seconds / total for name, seconds in self.spent.items()},
        )

    def _write_status(self, state: str, reason: str) -> None:
        """Write how the run stands; a disk that is full is no reason to end it."""
        self.status_at = self.seconds
        problem = self.problem
        status = self._place() | {
            "state": state,
            "reason": reason,
            "started": self.started,
            "updated": _now(),
            "steps_wanted": self.settings.steps,
            "seconds": round(self.seconds, 3),
            "overhead": {k: v / max(self.seconds, 1e-9) for k, v in self.spent.items()},
            "recent": self.meter.recent,
            "cumulated": self.meter.cumulated,
            "skipped": self.learner.skipped,
            "resets": self.learner.resets,
            "malformed": getattr(self.problem.stream, "skipped", 0),
            "loss_name": problem.loss_name,
            "entropy_rate": problem.entropy_rate,
            "title": problem.title,
            "backend": problem.backend.name,
            "device": problem.backend.device,
            "estimator": self.settings.estimator,
        }
        try:
            write_status(self.folder, status)
        except CheckpointError as error:
            LOGGER.warning("%s", error)


def _settings_of(folder: Path) -> Settings:
    return Settings.of(read_settings(folder / SETTINGS), call=f"train --resume {folder}")


def _is_finite(saved: Saved) -> bool:
    # Integers are finite, and of keys nobody knows what they should be; bfloat16 is of kind V.
    return all(
        bool(np.isfinite(array.astype(np.float32) if array.dtype.kind == "V" else array).all())
        for array in saved.arrays.values()
    )


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Have what the library reports written to a file, too."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"train: {path} cannot be written: {error.strerror or error}. Give another folder."
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        handler.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
