"""``run.json``: the status of a run, in its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from uoro.errors import CheckpointError, StructureError
from uoro.files.atomic import sync_folder, write_atomically
from uoro.files.numbers import floats, plain
from uoro.files.results import finite

STATUS = "run.json"
FORMAT = 1
STATES = ("running", "done", "stopped", "failed", "interrupted")


def write_status(folder: str | os.PathLike[str], status: dict[str, Any]) -> None:
    """Write the status of a run, whole or not at all.

    Args:
        folder: Folder of the run, which exists.
        status: Anything JSON holds, and numbers of arrays: ``state``, one of `STATES`; ``reason``,
            ``started``, ``updated`` (ISO 8601), ``step``, ``items``, ``steps_wanted``,
            ``seconds``, ``recent``, ``cumulated``, ``loss_name``, ``entropy_rate``, ``title``,
            ``backend``, ``estimator``. ``format`` is added.

    Raises:
        StructureError: If JSON cannot hold the status.
        CheckpointError: If the file cannot be written; the status before it is kept.
    """
    path = Path(folder) / STATUS
    call = f"write_status({os.fspath(folder)!r})"
    try:
        fields = {"format": FORMAT} | finite(plain(status))
        written = json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise StructureError(
            f"{call}: status: expected numbers, text, or lists and dictionaries of those, got "
            f"{status!r}: {error}."
        ) from error
    try:
        write_atomically(path, [written, b"\n"])
        sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{call}: it cannot be written: {error.strerror or error}. Make room, or give another "
            "folder."
        ) from error


def read_status(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the status of a run; that of a killed run says that it is running.

    Args:
        folder: Folder of the run.

    Returns:
        Status, with NaN and infinities as floats.

    Raises:
        CheckpointError: If there is no status, or it is damaged or of a newer format.
    """
    call = f"read_status({os.fspath(folder)!r})"
    try:
        status = json.loads((Path(folder) / STATUS).read_bytes())
        if not isinstance(status, dict):
            raise ValueError("expected an object")
    except OSError as error:
        raise CheckpointError(
            f"{call}: its {STATUS} cannot be read: {error.strerror or error}. Give the folder of a "
            "run."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{call}: its {STATUS} is damaged: {error}. It is written anew when the run resumes."
        ) from error
    number = status.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise CheckpointError(
            f"{call}: expected {STATUS} in format {FORMAT}, which this version reads, got format "
            f"{number}. Install a newer uoro."
        )
    return dict(floats(status))
