"""Metrics for TensorBoard."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from uoro.errors import MissingFrameworkError
from uoro.learning.log import LOGGER


class TensorBoardWriter:
    """Writer of scalars by name and step, into a folder that TensorBoard reads.

    Args:
        folder: Folder to write to; created if missing.

    Raises:
        MissingFrameworkError: If tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            # The thread of its SummaryWriter dies of a full disk, and closing waits for it.
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.summary import scalar
        except ModuleNotFoundError as error:
            raise MissingFrameworkError(
                f"TensorBoardWriter({os.fspath(folder)!r}): the module '{error.name}' is not "
                "installed. Try: pip install 'uoro[tensorboard]'."
            ) from error
        self._event: Any = import_module("tensorboardX.proto.event_pb2").Event
        self._scalar: Any = scalar
        self._writer: Any = None
        self._failing = False
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(os.fspath(Path(folder, "events")))
        except OSError as error:
            self._warn(error)

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write the finite numbers of a step.

        Numbers that cannot be written, as on a full disk, are lost, with a warning.
        """
        numbers = {
            name: float(value)
            for name, value in scalars.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        for name, number in numbers.items():
            if math.isfinite(number):
                event = self._event(wall_time=time.time(), step=step)
                event.summary.CopyFrom(self._scalar(name, number))
                self._attempt("write_event", event)

    def on_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of a step, as `uoro.training.OnMetrics`."""
        self.write(step, metrics)

    def flush(self) -> None:
        """Flush the file."""
        self._attempt("flush")

    def close(self) -> None:
        """Flush and close the file."""
        self._attempt("close")
        self._writer = None

    def _attempt(self, what: str, *arguments: Any) -> None:
        try:
            if self._writer is not None:
                getattr(self._writer, what)(*arguments)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._failing:
            LOGGER.warning(
                "TensorBoard's file cannot be written: %s. Its numbers are in the metrics.",
                error.strerror or error,
            )
        self._failing = True

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
