"""Places in files, and reading on from one after seeing that the file is still the same."""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path
from typing import NamedTuple

from uoro.errors import StreamError

BLOCK_BYTES = 1 << 16
REMEMBERED = 256
"""How many bytes before a place are looked at to know the file again."""


class Place(NamedTuple):
    """A place in files.

    Attributes:
        lap: How many times all of them were gone through before.
        file: Which of them.
        byte: How many bytes of it are before.
        checksum: The CRC-32 of the last of these, of `REMEMBERED` at most.
        skipped: How much was left out before, in all laps.
    """

    lap: int
    file: int
    byte: int
    checksum: int
    skipped: int

    def on(self, block: Block, count: int, skipped: int) -> Place:
        """Go on by bytes of the block that begins here, of which some things were left out."""
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
        before: The last of those before them, at most `REMEMBERED`.
        data: The bytes.
        ends: Whether they are the last ones now.
        identity: The device and the inode of the file.
    """

    before: bytes
    data: bytes
    ends: bool
    identity: tuple[int, int]


def read_block(call: str, path: Path, start: int, checksum: int) -> Block:
    """Read a block of a file that is known by what comes before it.

    Args:
        call: What to call it in errors.
        path: The file.
        start: The byte to begin at.
        checksum: The CRC-32 of the bytes before, of the last `REMEMBERED` at most.

    Raises:
        StreamError: If the file cannot be read, is too short, or is another one by now.
    """
    remembered = min(REMEMBERED, start)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise StreamError(
                f"{call}: {str(path)!r} is no ordinary file. Of a pipe give standard input, as '-'."
            )
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size < start:
                raise StreamError(
                    f"{call}: {str(path)!r} has {status.st_size} bytes now, and {start} of "
                    "it were read. It was changed; wanted is the file as it was, or a stream from "
                    "the beginning."
                )
            file.seek(start - remembered)
            before = file.read(remembered)
            data = file.read(BLOCK_BYTES)
    except OSError as error:
        raise StreamError(f"{call}: {str(path)!r} cannot be read: {error.strerror}.") from error
    if zlib.crc32(before) != checksum:
        raise StreamError(
            f"{call}: what stands before byte {start} of {str(path)!r} is not what was read there. "
            "It was changed; wanted is the file as it was, or a stream from the beginning."
        )
    return Block(before, data, len(data) < BLOCK_BYTES, (status.st_dev, status.st_ino))
