"""Places in files, and reading on from a place if the file is still the same."""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path
from typing import NamedTuple

from uoro.errors import StreamError

BLOCK_BYTES = 1 << 16
REMEMBERED = 256
"""Number of bytes before a place by which a file is recognized."""


class Place(NamedTuple):
    """A place in files.

    Attributes:
        lap: Number of times that all files were read before.
        file: Index of the file.
        byte: Number of bytes of the file before the place.
        checksum: CRC-32 of the last `REMEMBERED` of these bytes.
        skipped: Number of symbols left out before, in all laps.
    """

    lap: int
    file: int
    byte: int
    checksum: int
    skipped: int

    def on(self, block: Block, count: int, skipped: int) -> Place:
        """Return the place ``count`` bytes further in the block that begins here."""
        before = (block.before + block.data[max(0, count - REMEMBERED) : count])[-REMEMBERED:]
        return self._replace(
            byte=self.byte + count,
            checksum=zlib.crc32(before),
            skipped=self.skipped + skipped,
        )


BEGINNING = Place(0, 0, 0, 0, 0)


class Block(NamedTuple):
    """Bytes of a file.

    Attributes:
        before: Last bytes before the block, at most `REMEMBERED`.
        data: Bytes of the block.
        ends: Whether the block ends with the file.
        identity: Device and inode of the file.
        form: Form from which the bytes were converted, as in ``"gzip UTF-16LE"``; empty if none.
    """

    before: bytes
    data: bytes
    ends: bool
    identity: tuple[int, int]
    form: str = ""


def read_block(call: str, path: Path, start: int, checksum: int, count: int = BLOCK_BYTES) -> Block:
    """Read a block of a file, if the bytes before it are as they were.

    Args:
        call: Name of the call, for errors.
        path: File.
        start: Number of bytes before the block.
        checksum: CRC-32 of the last `REMEMBERED` bytes before the block.
        count: Number of bytes at most; default `BLOCK_BYTES`.

    Raises:
        StreamError: If the file cannot be read, is too short, or has changed.
    """
    remembered = min(REMEMBERED, start)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise StreamError(
                f"{call}: expected an ordinary file, got {str(path)!r}. Pass a pipe as standard "
                "input, '-'."
            )
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size < start:
                raise StreamError(
                    f"{call}: expected {str(path)!r} as it was read, {start} bytes or more, got "
                    f"{status.st_size} bytes now. Restore the file, or begin a new stream."
                )
            file.seek(start - remembered)
            before = file.read(remembered)
            data = file.read(count)
    except OSError as error:
        raise StreamError(
            f"{call}: expected a file that can be read, got {str(path)!r}: {error.strerror}."
        ) from error
    if zlib.crc32(before) != checksum:
        raise StreamError(
            f"{call}: expected {str(path)!r} as it was read, got other bytes before byte {start}. "
            "Restore the file, or begin a new stream."
        )
    return Block(before, data, len(data) < count, (status.st_dev, status.st_ino))
