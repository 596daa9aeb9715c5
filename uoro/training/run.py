"""A training run and its folder: what begins, resumes, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from msgspec import to_builtins

from uoro.checkpoint.folder import Checkpoints
from uoro.checkpoint.lock import run_lock
from uoro.errors import SettingError
from uoro.estimators.chosen import Chosen
from uoro.learning.log import LOGGER
from uoro.monitors import make_monitor
from uoro.training.config import SETTINGS, settings_of, write_settings
from uoro.training.loading import Trained, load_run
from uoro.training.logfile import logging_to
from uoro.training.metrics import OnMetrics
from uoro.training.problem import make_problem
from uoro.training.record import Live
from uoro.training.saving import CHECKPOINTS
from uoro.training.session import Ended, Session
from uoro.training.settings import Settings, changes


class Run:
    """A training run in a folder.

    The folder holds ``config.toml``, ``run.json``, ``metrics.jsonl``, ``log.txt``,
    ``checkpoints/`` and, once the run has ended, ``curve.png``. `Run` resumes from the folder,
    however the run ended.

    Args:
        settings: Settings of the run. Default for a resumed run: those it had.
        folder: Folder of the run; created if missing.
        resume: Whether to resume the run in the folder.
        force: Whether to resume with other settings than before.

    Raises:
        SettingError: If there is a run already, or none to resume, or the settings changed.
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
        exists = (folder / SETTINGS).exists()
        if exists and not resume:
            raise SettingError(
                f"train --out {folder}: there is a run in this folder. Resume it by --resume "
                f"{folder}, or give another folder."
            )
        resuming = exists or resume or settings is None
        before = settings_of(folder, call=f"train --resume {folder}") if resuming else None
        chosen = settings or before
        assert chosen is not None
        # Checked here, as settings that are built directly are not.
        chosen = Settings.of(to_builtins(chosen), call="train")
        self._problem, self.settings = make_problem(chosen)
        self._changed = [] if before is None else changes(before, self.settings)
        if self._changed and not force:
            raise SettingError(
                f"train --resume {folder}: expected the settings of the run, got other ones: "
                f"{'; '.join(self._changed)}. Leave them as they were, begin another run, or say "
                "--force to continue with the new ones."
            )
        if before is None and Checkpoints(folder / CHECKPOINTS).paths():
            raise SettingError(
                f"train --out {folder}: there are checkpoints of another run in this folder, and "
                f"no {SETTINGS}. Give another folder."
            )
        self._monitors = [make_monitor(name) for name in self.settings.monitors]

    @property
    def title(self) -> str:
        """Task and model in one line."""
        return self._problem.title

    @property
    def loss_name(self) -> str:
        """Return the name of the loss, with its unit."""
        return self._problem.loss_name

    @property
    def chosen(self) -> Chosen | None:
        """Which estimator was chosen, and why; ``None`` where the settings name one."""
        return self._problem.chosen

    def go(
        self,
        *,
        asked_to_stop: Callable[[], bool] = lambda: False,
        watch: Callable[[Live], None] = lambda live: None,
        on_metrics: Sequence[OnMetrics] = (),
    ) -> Ended:
        """Run until the steps are done, the stream ends, or somebody asks to stop.

        Args:
            asked_to_stop: Called between two chunks, and while there is no input.
            watch: Called as often with the present state of the run.
            on_metrics: Functions ``on_metrics(step, metrics)``, called once a line of metrics.

        Returns:
            How the run ended. A loss or gradient that is not finite and a stream that cannot be
            read end a run as ``"failed"``; it can be resumed.

        Raises:
            LockedError: If another run is at work in the folder.
            CheckpointError: If the folder cannot be written to, or no checkpoint is whole.
            StructureError: If the checkpoint is of another model, estimator or optimizer.
            StreamError: If the stream does not continue where the checkpoint was.
        """
        with ExitStack() as stack:
            stack.enter_context(run_lock(self.folder))
            if not self._resume and (self.folder / SETTINGS).exists():
                raise SettingError(
                    f"train --out {self.folder}: another process has just begun a run in this "
                    "folder. Give another folder."
                )
            stack.enter_context(logging_to(self.folder))
            if self.settings.dtype != "as made":
                stack.enter_context(self._problem.backend.precision(str(self.settings.dtype)))
            # NumPy warns of overflows; a loss that is not finite is reported anyway.
            stack.enter_context(np.errstate(over="ignore", invalid="ignore"))
            session = Session(
                self.folder,
                self.settings,
                self._problem,
                self._monitors,
                asked_to_stop,
                watch,
                on_metrics,
            )
            if self._resume:
                session.resume()
            # Not before the checkpoint is known to fit them.
            write_settings(self.folder, self.settings)
            for name in self._changed:
                LOGGER.warning("resuming with another setting: %s", name)
            return session.go()

    def load(self) -> Trained:
        """Load what the run has learned: parameters and model, without pair and optimizer.

        Raises:
            CheckpointError: If there is no checkpoint yet, or none is whole.
        """
        return load_run(self.folder)
