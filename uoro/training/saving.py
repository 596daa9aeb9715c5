"""The checkpoints of a run: writing one, and resuming from the newest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from uoro.checkpoint.folder import Checkpoints
from uoro.checkpoint.snapshot import Snapshot
from uoro.errors import CheckpointError, SettingError, StructureError, UOROError
from uoro.files.results import made_with
from uoro.learning.host_noise import SharedNoise
from uoro.learning.learner import Learner
from uoro.learning.log import LOGGER
from uoro.learning.saved import Saved
from uoro.learning.stream import Growing
from uoro.training.alarm import PairAlarm
from uoro.training.problem import Problem
from uoro.training.record import Record
from uoro.training.settings import Settings
from uoro.training.tap import Tap

CHECKPOINTS = "checkpoints"


class Saving:
    """Write the checkpoints of a run, and resume from the newest one that is whole.

    Args:
        folder: Folder of the run.
        settings: Complete settings of the run.
        problem: Problem of the run.
        learner: Learner at its first step.
        tap: Stream, of which nothing was read.
        record: Metrics and status, saved in the same checkpoint.
        signs: Signs shared by all backends, if the run uses them.

    Attributes:
        saved_at: Step of the newest checkpoint.
        tried_at: Step of the newest attempt to write one.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        problem: Problem,
        learner: Learner,
        tap: Tap,
        record: Record,
        signs: SharedNoise | None,
    ) -> None:
        self._folder, self._settings, self._problem = folder, settings, problem
        self._learner, self._tap, self._record, self._signs = learner, tap, record, signs
        self._checkpoints = Checkpoints(folder / CHECKPOINTS, settings.checkpoints.keep)
        self._alarm = PairAlarm()
        # Arrays that are not finite from the beginning, such as a mask, may stay so.
        self._odd = _not_finite(learner.export())
        self.saved_at = self.tried_at = 0

    def resume(self) -> None:
        """Restore the newest checkpoint that is whole; without one, start from the beginning.

        Raises:
            CheckpointError: If there are checkpoints, and none is whole.
            StructureError: If the checkpoint is of another model, estimator or optimizer.
            StreamError: If the stream does not continue where the checkpoint was.
        """
        found = self._checkpoints.latest()
        if found is None:
            LOGGER.info("there is no checkpoint yet: starting from the beginning")
            self._record.begin_anew()
            return
        document = found.snapshot.document
        try:
            self._restore(Saved(found.snapshot.arrays, document["learner"]))
            step = self.saved_at = self.tried_at = self._learner.steps
            self._tap.seek(document["stream"])
            if self._tap.items != step:
                raise ValueError(f"{self._tap.items} items were used in {step} steps")
            self._record.restore(document, step)
            if self._signs is not None:
                self._signs.seek(step)
        except UOROError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise StructureError(
                f"train --resume {self._folder}: expected a checkpoint of this run, got "
                f"{found.path.name} of another one ({type(error).__name__}: {error}). Remove it to "
                "resume from the one before."
            ) from error
        LOGGER.info("resuming from %s", found.path.name)

    def save(self) -> CheckpointError | None:
        """Write a checkpoint.

        Returns:
            Why it could not be written; a full disk does not end a run.
        """
        step = self.tried_at = self._learner.steps
        self._record.tick()
        with self._record.spent_on("checkpoints"):
            saved = self._learner.export()
            if broken := _not_finite(saved) - self._odd:
                LOGGER.warning(
                    "no checkpoint at step %d: its arrays are not finite (%s)",
                    *(step, ", ".join(sorted(broken))),
                )
                return None
            self._look_at_pair(saved)
            document = {
                "kind": "uoro training run",
                "settings": self._settings.table(),
                "learner": saved.counts,
                "stream": self._tap.position(step),
                "alphabet": None if self._problem.task is None else self._problem.task.alphabet,
                "made_with": made_with(self._problem.backend.name),
            }
            snapshot = Snapshot(saved.arrays, document | self._record.export())
            try:
                self._checkpoints.save(step, snapshot)
            except CheckpointError as error:
                LOGGER.warning("%s The run continues, and tries again at the next one.", error)
                self._record.event("checkpoint failed")
                return error
        self.saved_at = step
        return None

    def _look_at_pair(self, saved: Saved) -> None:
        """Report a pair that diverges, with the spectral radius of the transition."""
        found = self._alarm.look_at(saved.arrays, self._problem, self._learner, self._tap.newest)
        if found is not None:
            self._record.event("pair diverges", factor=found.factor)
            LOGGER.warning("at step %d %s", self._learner.steps, found.message)

    def _restore(self, saved: Saved) -> None:
        try:
            self._learner.restore(saved)
        except SettingError:
            # The estimator stores items, and needs an example of one.
            self._learner.restore(saved, inputs=self._example(saved))

    def _example(self, saved: Saved) -> Any:
        """Return an item like those of the stream."""
        if not isinstance(self._problem.stream, Growing):
            return self._tap.first()
        # A growing stream may not have an item yet, but the stored ones look alike.
        stored: dict[str, Any] = {}
        for name, array in saved.arrays.items():
            _, found, item = name.partition("/inputs/")
            if found and name.startswith(("carry/", "memory/")):
                stored.setdefault(item, array[0])
        return stored


def _not_finite(saved: Saved) -> set[str]:
    """Return the names of the arrays that are not finite."""
    # bfloat16 is of kind V.
    return {
        name
        for name, array in saved.arrays.items()
        if not np.isfinite(array.astype(np.float32) if array.dtype.kind == "V" else array).all()
    }
