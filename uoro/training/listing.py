"""The runs below a folder, and which of them are at work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from uoro.checkpoint.lock import is_locked
from uoro.errors import CheckpointError
from uoro.training.status import STATUS, read_status


class RunEntry(NamedTuple):
    """A run.

    Attributes:
        path: Folder of the run.
        name: Path below the listed folder.
        state: ``"running"`` while a process works on the run; otherwise the state in its status,
            but ``"killed"`` for ``"running"``, and ``"unreadable"`` if there is no valid status.
        status: Status of the run; only a ``"reason"`` if it cannot be read.
    """

    path: Path
    name: str
    state: str
    status: dict[str, Any]


def list_runs(folder: str | os.PathLike[str]) -> list[RunEntry]:
    """List the runs in a folder and below it; nothing is written.

    Args:
        folder: Folder to search; folders inside a run are skipped.

    Returns:
        Runs, sorted by name.

    Raises:
        CheckpointError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CheckpointError(
            f"list_runs({str(root)!r}): there is no such folder. Give a folder that holds runs."
        )
    entries = []
    for place, inner, files in os.walk(root):
        if STATUS in files:
            inner.clear()
            entries.append(_entry(root, Path(place)))
        inner[:] = [name for name in inner if not name.startswith(".")]
    return sorted(entries, key=lambda entry: entry.name)


def _entry(root: Path, path: Path) -> RunEntry:
    name = path.name if path == root else str(path.relative_to(root))
    # Asked first: a run writes its last status before it releases the lock.
    at_work = is_locked(path)
    try:
        status = read_status(path)
    except CheckpointError as error:
        return RunEntry(path, name, "running" if at_work else "unreadable", {"reason": str(error)})
    state = str(status.get("state", "unreadable"))
    if at_work:
        state = "running"
    elif state == "running":
        state = "killed"
    return RunEntry(path, name, state, status)
