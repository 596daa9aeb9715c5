"""How a run stands: ``run.json`` in its folder."""

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
    """Write how a run stands, whole or not at all.

    Args:
        folder: The run's folder, which exists.
        status: What JSON can say, and numbers of arrays: ``state``, one of `STATES`; ``reason``,
            ``started``, ``updated`` (ISO 8601), ``step``, ``items``, ``steps_wanted``,
            ``seconds``, ``recent``, ``cumulated``, ``loss_name``, ``entropy_rate``, ``title``,
            ``backend``, ``estimator``. ``format`` is added.

    Raises:
        StructureError: If JSON cannot say it.
        CheckpointError: If the system refuses to write; what was there before is as it was.
    """
    path = Path(folder) / STATUS
    call = f"write_status({os.fspath(folder)!r})"
    try:
        fields = {"format": FORMAT} | finite(plain(status))
        written = json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise StructureError(
            f"{call}: {status!r} cannot be written as JSON: {error}. Wanted are numbers, text, and "
            "lists and dictionaries of them."
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
    """Read how a run stands, as it last said itself: one that was killed says it is running.

    Args:
        folder: The run's folder.

    Returns:
        What was written, NaN and infinities as floats.

    Raises:
        CheckpointError: If there is no such file, or it is damaged or of a newer format.
    """
    call = f"read_status({os.fspath(folder)!r})"
    try:
        status = json.loads((Path(folder) / STATUS).read_bytes())
        if not isinstance(status, dict):
            raise ValueError("it is no object")
    except OSError as error:
        raise CheckpointError(
            f"{call}: its {STATUS} cannot be read: {error.strerror or error}. Give the folder of a "
            "run."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{call}: its {STATUS} is damaged: {error}. It is written anew when the run goes on."
        ) from error
    number = status.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise CheckpointError(
            f"{call}: the format of its {STATUS} is {number}, and this version of uoro reads "
            f"{FORMAT}. Install a newer uoro."
        )
    return dict(floats(status))
