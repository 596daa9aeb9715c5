"""One run per folder: a lock that the system releases, however the run ends."""

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
    """The run that holds a lock.

    Attributes:
        process: Process id; 0 if unknown.
        host: Host; empty if unknown.
        since: Time at which it took the lock, in ISO 8601; empty if unknown.
    """

    process: int
    host: str
    since: str


@contextlib.contextmanager
def run_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock of a run's folder, and remove the partial files of runs that were killed.

    The lock is the system's own, on a file in the folder: the lock of a run that is killed is
    released once the processes that it forked have ended too. On a network drive the lock is as
    good as the drive's locks.

    Args:
        folder: Folder of the run; created if missing.

    Raises:
        LockedError: If another run, of this process or another, holds the lock.
        CheckpointError: If the lock file cannot be created.
    """
    folder = Path(folder)
    call = f"run_lock({str(folder)!r})"
    lock = FileLock(folder / _LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_PATIENCE, poll_interval=0.05)
    except Timeout as error:
        raise LockedError(
            f"{call}: expected a folder without a run, got one in which "
            f"{_spell(_read_holder(folder))} is at work. Wait, stop it, or try another folder."
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
    """Return whether a run is at work in a folder, without writing there."""
    return lock_holder(folder) is not None


def lock_holder(folder: str | os.PathLike[str]) -> Holder | None:
    """Return the holder of a folder's lock, or ``None``, without writing there."""
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
    """Remove the partial files of runs that were killed."""
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
    """Return whether the process that wrote its name into the lock may still live."""
    here = holder.host == socket.gethostname()
    return holder.process > 0 and not (here and process_lives(holder.process) is False)


def _spell(holder: Holder) -> str:
    if not holder.process:
        return "another run"
    return f"process {holder.process} on {holder.host}, since {holder.since},"


def _refused(call: str, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{call}: expected a folder in which a lock can be created, got: "
        f"{error.strerror or error}. Try a folder that can be written to."
    )
