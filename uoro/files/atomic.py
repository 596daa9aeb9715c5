"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable
from pathlib import Path

# An hour without a byte: whoever wrote it is gone.
_STALE_SECONDS = 3600.0
_LEFTOVER = re.compile(r"\.(?P<target>.+)\.(?P<host>[^-]+)-(?P<process>\d+)-[0-9a-f]{8}\.part")
_in_progress: set[Path] = set()


def write_atomically(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write beside the file, make sure it is on the disk, and put it in its place.

    On failure what was there before is as it was, and nothing is left beside it. The new name
    itself outlasts a power cut only after `sync_folder`.

    Args:
        path: Where to; its folder exists.
        pieces: The bytes, one piece after the other.

    Raises:
        OSError: If the system refuses, for want of room, say.
    """
    beside = path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    _in_progress.add(beside)
    try:
        _write(beside, pieces)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    finally:
        _in_progress.discard(beside)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk.

    Raises:
        OSError: If the system refuses; not where it knows no such thing.
    """
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def leftovers(folder: Path, target: re.Pattern[str]) -> list[Path]:
    """List what writers that are gone have left beside the files they meant to write.

    A file is somebody's who still writes if its process lives, or may live on another host and has
    written within the hour.

    Args:
        folder: Where to look.
        target: What the name of the file that was meant matches.

    Raises:
        OSError: If the folder cannot be listed.
    """
    found = []
    for path in folder.iterdir():
        named = _LEFTOVER.fullmatch(path.name)
        if named is None or not target.fullmatch(named["target"]) or path in _in_progress:
            continue
        here = named["host"] == _host()
        if (here and not _lives(int(named["process"]))) or _is_stale(path):
            found.append(path)
    return sorted(found)


def process_lives(process: int) -> bool | None:
    """Say whether a process of this host lives; None where that cannot be asked."""
    if os.name == "nt":  # signal 0 would end it there
        return None
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _write(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _host() -> str:
    return re.sub(r"[^0-9A-Za-z.]", "_", socket.gethostname()) or "_"


def _lives(process: int) -> bool:
    """Say whether a writer of this host may still write; our own would be in progress."""
    return process != os.getpid() and process_lives(process) is not False


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _STALE_SECONDS
    except OSError:
        return False
