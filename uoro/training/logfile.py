"""``log.txt``: what the library reports during a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uoro.errors import CheckpointError
from uoro.learning.log import LOGGER

LOG = "log.txt"


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Write what the library reports to the log of a run, too.

    Args:
        folder: Folder of the run.

    Raises:
        CheckpointError: If the log cannot be written.
    """
    try:
        handler = _LogFile(folder / LOG, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"train: {folder / LOG} cannot be written: {error.strerror or error}. Give another "
            "folder."
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


class _LogFile(logging.FileHandler):
    """Log that loses the lines it cannot write."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Do nothing: a full disk does not end a run."""

    def close(self) -> None:
        """Close the file, whatever becomes of its last line."""
        with suppress(OSError):
            super().close()
