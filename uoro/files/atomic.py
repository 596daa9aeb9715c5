"""Files that are whole or absent, whatever happens while they are written."""

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

# A writer that wrote nothing for an hour is gone.
_STALE_SECONDS = 3600.0
_LEFTOVER = re.compile(r"\.(?P<target>.+)\.(?P<host>[^-]+)-(?P<process>\d+)-[0-9a-f]{8}\.part")
_in_progress: set[Path] = set()


def write_atomically(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file whole or not at all: beside its place, to the disk, then by renaming.

    On failure a file that was there is unchanged, and nothing is left beside it. The new name
    survives a power cut only after `sync_folder`.

    Args:
        path: File in an existing folder.
        pieces: Bytes, piece by piece.

    Raises:
        OSError: If the system refuses, for example because the disk is full.
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
    """Bring the names in a folder to the disk, where the system supports it.

    Raises:
        OSError: If the system refuses.
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
    """Return the partial files of writers that were killed.

    A writer may still be at work if its process lives, or if it runs on another host and wrote
    within the last hour.

    Args:
        folder: Folder to look in.
        target: Pattern of the names of the complete files.

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
    """Return whether a process of this host lives; ``None`` where the system cannot tell."""
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
    """Return whether another process of this host lives that may still write."""
    return process != os.getpid() and process_lives(process) is not False


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _STALE_SECONDS
    except OSError:
        return False
