"""Files read one after the other, over and over, from any byte on."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from uoro.errors import StreamError
from uoro.stream import not_a_position, require_numbers
from uoro.tasks.alphabet import NOTHING, Alphabet
from uoro.tasks.pairs import Symbols

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
    """

    before: bytes
    data: bytes
    ends: bool


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
            size = os.fstat(file.fileno()).st_size
            if size < start:
                raise StreamError(
                    f"{call}: {str(path)!r} has {size} bytes now, and {start} of it were read. It "
                    "was changed; wanted is the file as it was, or a stream from the beginning."
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
    return Block(before, data, len(data) < BLOCK_BYTES)


class FileReader:
    """The symbols of files that are read one after the other, and then again.

    No file is open between two blocks. Where a block begins, the bytes before it must be those
    that were read.

    Args:
        paths: The files.
        alphabet: Their symbols.
        hint: What to do about what is in no alphabet, for the error.
        laps: How many times to go through them all; without an end if not given.
    """

    def __init__(
        self, paths: Sequence[Path], alphabet: Alphabet, hint: str, *, laps: int | None = None
    ) -> None:
        self._paths = paths
        self._alphabet = alphabet
        self._hint = hint
        self._laps = laps
        self._stand(BEGINNING)

    @property
    def size(self) -> int:
        """How many symbols the alphabet has."""
        return len(self._alphabet.codes)

    @property
    def skipped(self) -> int:
        """How much was left out before the last symbol read, in all laps."""
        return self._behind().skipped

    @property
    def position(self) -> dict[str, int]:
        """The end of the last symbol read, with a checksum of the bytes before."""
        return self._behind()._asdict()

    def seek(self, position: Any) -> None:
        """Go on behind a byte of a file.

        Raises:
            StreamError: If that is no position, or the file there is not the one that was read.
        """
        place = Place(*require_numbers("Text", position, *Place._fields))
        if place.file >= len(self._paths):
            wanted = f"a 'file' below {len(self._paths)}, which is how many there are"
            raise not_a_position("Text", position, wanted)
        if self._laps is not None and place.lap >= self._laps:
            raise not_a_position("Text", position, f"a 'lap' below {self._laps}")
        read_block("Text.seek(position)", self._paths[place.file], place.byte, place.checksum)
        self._stand(place)

    def read(self, count: int) -> Symbols | None:
        """Give what is left of a block, or of the next one that has a symbol.

        Raises:
            StreamError: If a file cannot be read, was changed, or holds what is malformed.
        """
        while self._used == len(self._decoded.symbols):
            if self._next.lap == self._laps:
                return None
            self._read_on()
        part = self._decoded.symbols[self._used : self._used + count]
        self._used += len(part)
        return part

    def _stand(self, place: Place) -> None:
        """Stand at a place, with nothing read of what comes."""
        self._last = self._start = self._next = place
        self._block, self._decoded, self._used = Block(b"", b"", True), NOTHING, 0
        self._any = place.byte > 0

    def _behind(self) -> Place:
        """The place behind the last symbol read."""
        if not self._used:
            return self._last
        end = int(self._decoded.ends[self._used - 1])
        skipped = int(self._decoded.skipped[self._used - 1])
        return self._start.on(self._block, end, skipped)

    def _read_on(self) -> None:
        """Decode the next block, which may hold no symbol."""
        start, path = self._next, self._paths[self._next.file]
        block = read_block("Text.stream()", path, start.byte, start.checksum)
        decoded = self._alphabet.decode(block.data, final=block.ends)
        if decoded.stranger and not len(decoded.symbols):
            raise StreamError(
                f"Text.stream(): byte {start.byte} of {str(path)!r} begins {decoded.stranger}. "
                f"{self._hint}"
            )
        found = self._any or len(decoded.symbols) > 0
        following = start.on(block, decoded.consumed, decoded.left_out)
        if block.ends and decoded.consumed == len(block.data):
            following = following._replace(file=start.file + 1, byte=0, checksum=0)
            if following.file == len(self._paths):
                self._require(found)
                following, found = following._replace(lap=start.lap + 1, file=0), False
        self._last = self._behind()
        self._start, self._block, self._decoded, self._used = start, block, decoded, 0
        self._next, self._any = following, found

    def _require(self, found: bool) -> None:
        if not found:
            raise StreamError(
                "Text.stream(): there is no symbol of the alphabet in "
                f"{', '.join(map(str, self._paths))}. They are empty, or were changed; open others."
            )
