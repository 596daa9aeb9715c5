"""One run a folder: a lock that the system releases, however the run ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from uoro.errors import CheckpointError, LockedError
from uoro.files.atomic import leftovers, process_lives, write_atomically

_LOCK = ".run.lock"
_HOLDER = ".run.lock.json"
_ANYTHING = re.compile(r".+")
# `is_locked` has to take the lock for a moment to see whether anybody has it.
_PATIENCE = 1.0


class Holder(NamedTuple):
    """Who holds a lock.

    Attributes:
        process: Its process id; 0 if it did not say.
        host: Its host; empty if it did not say.
        since: When it took the lock, in ISO 8601; empty if it did not say.
    """

    process: int
    host: str
    since: str


@contextlib.contextmanager
def run_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Be the only run in a folder; what runs before it left half written is removed.

    The lock is the system's own, on a file in the folder: a run that is killed holds it no more,
    once the processes that it has forked have ended too. On network drives it is as good as their
    locks are.

    Args:
        folder: The run's folder; made if it is missing.

    Raises:
        LockedError: If another run, of this process or another one, is at work there.
        CheckpointError: If the lock's file cannot be made.
    """
    folder = Path(folder)
    call = f"run_lock({str(folder)!r})"
    lock = FileLock(folder / _LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_PATIENCE, poll_interval=0.05)
    except Timeout as error:
        raise LockedError(
            f"{call}: {_spell(_read_holder(folder))} is at work in this folder. Wait for it, stop "
            "it, or give another folder."
        ) from error
    except OSError as error:
        raise _refused(call, error) from error
    try:
        _clear(folder)
        _write_holder(folder, call)
        yield
    finally:
        # While the lock is held, so that nobody else's is removed.
        with contextlib.suppress(OSError):
            os.unlink(folder / _HOLDER)
        lock.release()


def is_locked(folder: str | os.PathLike[str]) -> bool:
    """Say whether a run is at work in a folder; nothing is written there."""
    return lock_holder(folder) is not None


def lock_holder(folder: str | os.PathLike[str]) -> Holder | None:
    """Say who is at work in a folder; nothing is written there.

    Returns:
        The holder of its lock, or None if nobody holds it.
    """
    folder = Path(folder)
    path = folder / _LOCK
    if not path.is_file():
        return None
    try:
        with FileLock(path, timeout=0):
            return None
    except Timeout:
        # Another one who only asks, or a run, which says who it is as soon as it has the lock.
        if _may_live(holder := _read_holder(folder)):
            return holder
    except OSError:
        # It cannot be asked, as the folder is not ours to write to. What the holder said, then.
        holder = _read_holder(folder)
        return holder if _may_live(holder) else None
    try:
        with FileLock(path, timeout=_PATIENCE / 4, poll_interval=0.01):
            return None
    except (Timeout, OSError):
        return _read_holder(folder)


def _clear(folder: Path) -> None:
    """Remove what runs that were killed have left half written beside the files of a run."""
    with contextlib.suppress(OSError):
        for path in leftovers(folder, _ANYTHING):
            os.unlink(path)


def _write_holder(folder: Path, call: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(os.getpid(), socket.gethostname(), now)
    try:
        write_atomically(folder / _HOLDER, [json.dumps(holder._asdict()).encode()])
    except OSError as error:
        raise _refused(call, error) from error


def _read_holder(folder: Path) -> Holder:
    try:
        fields = json.loads((folder / _HOLDER).read_bytes())
        return Holder(int(fields["process"]), str(fields["host"]), str(fields["since"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Holder(0, "", "")


def _may_live(holder: Holder) -> bool:
    """Say whether who said that they hold a lock may still be there."""
    here = holder.host == socket.gethostname()
    return holder.process > 0 and not (here and process_lives(holder.process) is False)


def _spell(holder: Holder) -> str:
    if not holder.process:
        return "another run"
    return f"process {holder.process} on {holder.host}, since {holder.since},"


def _refused(call: str, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{call}: the lock cannot be made there: {error.strerror or error}. Give a folder that "
        "can be written to."
    )
