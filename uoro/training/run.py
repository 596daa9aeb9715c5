"""A run: a learner at work on a stream, with a folder in which nothing is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
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
from uoro.estimators.streams import ParallelEstimator
from uoro.files.results import made_with
from uoro.learning.carry import Metrics
from uoro.learning.host_noise import SharedNoise
from uoro.learning.learner import Learner
from uoro.learning.log import LOGGER
from uoro.learning.saved import Saved
from uoro.monitors import make_monitor, spectral_radius
from uoro.training.alarm import PairAlarm, influence_norm
from uoro.training.problem import make_problem
from uoro.training.record import Live, Record
from uoro.training.settings import (
    SETTINGS,
    Settings,
    changes,
    read_settings,
    write_settings,
)
from uoro.training.tap import Tap

CHECKPOINTS, LOG = "checkpoints", "log.txt"
IDLE_SECONDS = 5.0
"""After how long without input what was learned is brought to disk."""
EAGER_CHUNK = 16


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
        if before is None and Checkpoints(folder / CHECKPOINTS).paths():
            raise SettingError(
                f"train --out {folder}: there are checkpoints of another run in this folder, and "
                f"no {SETTINGS}. Give another folder."
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
            StreamError: If the stream does not go on from where the checkpoint was.
        """
        with ExitStack() as stack:
            stack.enter_context(run_lock(self.folder))
            if not self._resume and (self.folder / SETTINGS).exists():
                raise SettingError(
                    f"train --out {self.folder}: somebody has begun a run in this folder just now. "
                    "Give another folder."
                )
            stack.enter_context(_logging_to(self.folder / LOG))
            if self.settings.dtype != "as made":
                stack.enter_context(self._problem.backend.precision(str(self.settings.dtype)))
            # NumPy would warn of overflows; a loss that is not finite is found and named anyway.
            stack.enter_context(np.errstate(over="ignore", invalid="ignore"))
            work = _Work(self, asked_to_stop, watch)
            if self._resume:
                work.take_up()
            # Not before it is known that they go with what is there.
            write_settings(self.folder, self.settings)
            for name in self._changed:
                LOGGER.warning("going on with another setting: %s", name)
            return work.go()


class _Work:
    """A run while it holds its lock."""

    def __init__(
        self, run: Run, asked_to_stop: Callable[[], bool], watch: Callable[[Live], None]
    ) -> None:
        problem, settings = run._problem, run.settings
        assert problem.estimator is not None
        assert problem.optimizer is not None
        self.settings, self.problem, self.folder = settings, problem, run.folder
        self.asked_to_stop, self.watch = asked_to_stop, watch
        self.monitors = run._monitors
        estimator = problem.estimator
        for monitor in self.monitors:
            estimator = monitor.wrap(estimator)
        self.signs = self._shared_noise(estimator) if settings.noise == "shared" else None
        self.learner = Learner(
            problem.dynamics,
            estimator,
            problem.optimizer,
            problem.params,
            problem.state,
            seed=settings.seed,
            signs=self.signs,
            on_nonfinite=settings.on_nonfinite,
        )
        # What is not finite from the beginning, a mask say, may stay so.
        self.odd = _not_finite(self.learner.export())
        own = problem.task is not None or settings.dtype == "as made"
        self.tap = Tap(
            problem.backend,
            problem.stream,
            problem.dynamics.span,
            dtype=None if own else settings.dtype,
        )
        self.checkpoints = Checkpoints(self.folder / CHECKPOINTS, settings.checkpoints.keep)
        self.record = Record(self.folder, settings, problem, self.learner)
        # The steps of the last checkpoint, of the last attempt to write one, and of the last line.
        self.saved_at = self.tried_at = 0
        self.alarm = PairAlarm()
        self.written_at = 0
        self.stalled = False
        self.chunk = settings.chunk if problem.backend.compiled else EAGER_CHUNK
        # A stream that is still being written waits for more; it asks whether to.
        stream: Any = problem.stream
        if hasattr(stream, "waiting"):
            stream.waiting = self._waiting
            # What was learned is to be known while it waits.
            self.chunk = self.chunk if problem.backend.compiled else 1

    def take_up(self) -> None:
        """Go back to the newest checkpoint that is whole; without one, to the beginning."""
        found = self.checkpoints.latest()
        if found is None:
            LOGGER.info("there is no checkpoint yet: starting from the beginning")
            self.record.begin_anew()
            return
        document = found.snapshot.document
        try:
            saved = Saved(found.snapshot.arrays, document["learner"])
            self._restore(saved)
            step = self.saved_at = self.tried_at = self.learner.steps
            self.tap.seek(document["stream"])
            if self.tap.items != step:
                raise ValueError(f"{self.tap.items} items were used in {step} steps")
            self.record.restore(document, step)
            if step % self.settings.metrics.every == 0:
                self.written_at = step
            if self.signs is not None:
                self.signs.seek(step)
        except UOROError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise StructureError(
                f"train --resume {self.folder}: {found.path.name} is not of a run like this one "
                f"({type(error).__name__}: {error})."
            ) from error
        LOGGER.info("going on from %s", found.path.name)

    def go(self) -> Ended:
        """Go along, and come to an end."""
        with self.record.open():
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
        self.record.take(metrics.losses)
        self.watch(self.record.live(0.0))
        self._require_not_asked()

    def _require_not_asked(self) -> None:
        if self.asked_to_stop():
            raise _StopError

    def _waiting(self, seconds: float) -> bool:
        """Say whether to go on waiting for input."""
        self.record.tick()
        if seconds > IDLE_SECONDS and self.tried_at != self.learner.steps:
            self._save()
        self.watch(self.record.live(seconds))
        self.stalled = self.settings.stall is not None and seconds >= self.settings.stall
        return not (self.stalled or self.asked_to_stop())

    def _write_line(self, *, partial: bool = False) -> None:
        """Write a line of metrics, with what the monitors see."""
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
        self.written_at = learner.steps

    def _save(self) -> CheckpointError | None:
        """Write a checkpoint; a disk that is full is not the end of the run."""
        step = self.tried_at = self.learner.steps
        self.record.tick()
        with self.record.spent_on("checkpoints"):
            saved = self.learner.export()
            if broken := _not_finite(saved) - self.odd:
                LOGGER.warning(
                    "no checkpoint at step %d: what it would hold is not finite (%s)",
                    *(step, ", ".join(sorted(broken))),
                )
                return None
            self._look_at_pair(saved)
            document = {
                "kind": "uoro training run",
                "settings": self.settings.table(),
                "learner": saved.counts,
                "stream": self.tap.position(step),
                "alphabet": None if self.problem.task is None else self.problem.task.alphabet,
                "made_with": made_with(self.problem.backend.name),
            }
            try:
                self.checkpoints.save(step, Snapshot(saved.arrays, document | self.record.export()))
            except CheckpointError as error:
                LOGGER.warning("%s The run goes on, and tries again at the next one.", error)
                self.record.event("checkpoint failed")
                return error
        self.saved_at = step
        return None

    def _look_at_pair(self, saved: Saved) -> None:
        """Say that the pair runs away, and how fast the state forgets."""
        norm = influence_norm(saved.arrays)
        factor = None if norm is None else self.alarm.look(norm)
        if factor is None:
            return
        self.record.event("pair runs away", factor=factor)
        radius = ""
        if self.tap.newest is not None and not isinstance(
            self.learner.estimator, ParallelEstimator
        ):
            item = self.problem.backend.from_host(self.tap.newest)
            found = spectral_radius(
                self.problem.dynamics, self.learner.params, self.learner.state, item
            ).radius
            radius = f" The spectral radius of the transition is about {float(found):.3g}."
        LOGGER.warning(
            "the pair runs away: at step %d it is %.3g times what it used to be.%s A state that "
            "does not forget makes it grow; try a smaller learning rate, or reset it.",
            *(self.learner.steps, factor, radius),
        )

    def _restore(self, saved: Saved) -> None:
        try:
            self.learner.restore(saved)
        except SettingError:
            # The estimator stores items, and has to know what one looks like.
            self.learner.restore(saved, inputs=self._example(saved))

    def _example(self, saved: Saved) -> Any:
        """Give an item like those of the stream."""
        if not hasattr(self.problem.stream, "waiting"):
            return self.tap.first()
        # Nobody knows when the first one comes, but what is stored looks like it.
        stored: dict[str, Any] = {}
        for name, array in saved.arrays.items():
            _, found, item = name.partition("/inputs/")
            if found and name.startswith("memory/"):
                stored.setdefault(item, array[0])
        return stored

    def _shared_noise(self, estimator: Any) -> SharedNoise | None:
        state = self.problem.backend.to_host(self.problem.state)
        try:
            signs = SharedNoise(estimator.draw, state, self.settings.seed)
            return signs if signs.used else None
        except (TypeError, AttributeError) as error:
            raise SettingError(
                "train(noise='shared'): the state must be one array or nested dictionaries of "
                f"arrays ({error}). Take noise='own'."
            ) from error

    def _end(self, state: str, reason: str) -> Ended:
        record, step = self.record, self.learner.steps
        record.tick()
        if self.written_at != step:
            self._write_line(partial=step % self.settings.metrics.every != 0)
        error = None
        if self.saved_at != step:
            error = self._save()
        if error is not None:
            state, reason = "failed", f"{reason}, but the last checkpoint is missing: {error}"
        if not record.flush():
            state, reason = "failed", f"{reason}, but lines of metrics could not be written"
        record.write_status(state, reason)
        (LOGGER.error if state == "failed" else LOGGER.info)("%s: %s", state, reason)
        record.draw()
        meter = record.meter
        return Ended(state, reason, step, meter.recent, meter.cumulated, record.overhead())


def _settings_of(folder: Path) -> Settings:
    return Settings.of(read_settings(folder / SETTINGS), call=f"train --resume {folder}")


def _not_finite(saved: Saved) -> set[str]:
    """Name the arrays that are not finite."""
    # bfloat16 is of kind V.
    return {
        name
        for name, array in saved.arrays.items()
        if not np.isfinite(array.astype(np.float32) if array.dtype.kind == "V" else array).all()
    }


class _LogFile(logging.FileHandler):
    """A log that does without the lines which cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Do nothing: a disk that is full is no reason to end a run."""

    def close(self) -> None:
        """Close the file, whatever becomes of its last line."""
        with suppress(OSError):
            super().close()


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Have what the library reports written to a file, too."""
    try:
        handler = _LogFile(path, encoding="utf-8")
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
