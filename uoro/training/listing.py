"""Which runs there are, and which of them are really at work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from uoro.checkpoint.lock import is_locked
from uoro.errors import CheckpointError
from uoro.training.status import STATUS, read_status


class RunEntry(NamedTuple):
    """One run.

    Attributes:
        path: Its folder.
        name: Its path below the folder that was listed.
        state: As the run says in its status, but ``"killed"`` if it says that it is running and
            nobody is at work there, ``"running"`` if somebody is, whatever it says; and
            ``"unreadable"`` if its status cannot be read.
        status: Its status; of one that cannot be read, nothing but the ``"reason"``.
    """

    path: Path
    name: str
    state: str
    status: dict[str, Any]


def list_runs(folder: str | os.PathLike[str]) -> list[RunEntry]:
    """Find every run in a folder or below it; nothing is written there.

    Args:
        folder: Where to look. Folders within a run's are not looked into.

    Returns:
        The runs, sorted by name.

    Raises:
        CheckpointError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CheckpointError(
            f"list_runs({str(root)!r}): there is no such folder. Give one that holds runs."
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
    # Asked first: a run that ends in between has written its last word before it lets go.
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
