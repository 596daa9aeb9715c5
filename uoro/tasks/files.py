"""A reader of symbols from files, in several laps, from any position on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uoro.errors import StreamError
from uoro.files.content import Content, behind_mark, other_encoding, spell_file, spell_stranger
from uoro.files.places import BEGINNING, Block, Place
from uoro.learning.stream import not_a_position, require_numbers
from uoro.tasks.alphabet import NOTHING, Alphabet
from uoro.tasks.pairs import Symbols


class FileReader:
    """The symbols of files, one file after the other, in several laps.

    No file is open between two blocks. At each block a checksum confirms that the bytes before
    it are the bytes that were read. Positions count the bytes of the content: of a compressed
    file those decompressed, and of UTF-16 and UTF-32 those of the same text in UTF-8.

    Args:
        paths: Paths of the files.
        alphabet: The alphabet.
        hint: Way out of a symbol outside the alphabet, for the error.
        laps: Number of passes over the files; default endless.
        follow: Whether the file, a single one, may grow.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        alphabet: Alphabet,
        hint: str,
        *,
        laps: int | None = None,
        follow: bool = False,
    ) -> None:
        self._paths = paths
        self._alphabet = alphabet
        self._hint = hint
        self._laps = laps
        self._follow = follow
        self._content = Content(as_text=alphabet.encoding == "utf-8", growing=follow)
        self._identity: tuple[int, int] | None = None
        self._stand(BEGINNING)

    @property
    def size(self) -> int:
        """Number of symbols of the alphabet."""
        return len(self._alphabet.codes)

    @property
    def skipped(self) -> int:
        """Number of malformed symbols left out so far, in all laps."""
        return self._behind().skipped

    @property
    def position(self) -> dict[str, int]:
        """Position of the end of the last symbol read, with a checksum of the bytes before."""
        return self._behind()._asdict()

    def seek(self, position: Any) -> None:
        """Continue at a position.

        Raises:
            StreamError: If the position is invalid, or the file differs from the one read.
        """
        place = Place(*require_numbers("Text", position, *Place._fields))
        if place.file >= len(self._paths):
            expected = f"a 'file' below {len(self._paths)}, the number of files"
            raise not_a_position("Text", position, expected)
        if self._laps is not None and place.lap >= self._laps:
            raise not_a_position("Text", position, f"a 'lap' below {self._laps}")
        path = self._paths[place.file]
        self._content.block("Text.seek(position)", path, place.byte, place.checksum)
        self._stand(place)

    def read(self, count: int) -> Symbols | None:
        """Return at most ``count`` symbols; ``None`` at the end.

        At the end of a followed file the array is empty.

        Raises:
            StreamError: If a file cannot be read, was changed, or holds a malformed symbol.
        """
        while self._used == len(self._decoded.symbols):
            if self._next.lap == self._laps:
                return None
            self._read_on()
            if self._follow and self._block.ends and not len(self._decoded.symbols):
                break
        part = self._decoded.symbols[self._used : self._used + count]
        self._used += len(part)
        return part

    def _stand(self, place: Place) -> None:
        """Continue at a place, with nothing read behind it."""
        self._last = self._start = self._next = place
        self._block, self._decoded, self._used = Block(b"", b"", True, (0, 0)), NOTHING, 0
        self._any = place.byte > 0

    def _behind(self) -> Place:
        """Return the place behind the last symbol read."""
        if not self._used:
            return self._last
        end = int(self._decoded.ends[self._used - 1])
        skipped = int(self._decoded.skipped[self._used - 1])
        return self._start.on(self._block, end, skipped)

    def _read_on(self) -> None:
        """Read and decode the next block, which may hold no symbol."""
        start, path = self._next, self._paths[self._next.file]
        block = self._content.block("Text.stream()", path, start.byte, start.checksum)
        if self._follow:
            self._require_same(block)
        if self._alphabet.encoding == "utf-8":
            start, block = behind_mark(start, block)
        decoded = self._alphabet.decode(block.data, final=block.ends and not self._follow)
        if decoded.stranger and not len(decoded.symbols):
            looks = other_encoding(path, block) if self._alphabet.encoding == "utf-8" else ""
            raise StreamError(
                f"Text.stream(): byte {start.byte} of {spell_file(path, block)} begins "
                f"{spell_stranger(decoded.stranger, block)}. {looks}{self._hint}"
            )
        found = self._any or len(decoded.symbols) > 0
        following = start.on(block, decoded.consumed, decoded.left_out)
        if block.ends and decoded.consumed == len(block.data) and not self._follow:
            following = following._replace(file=start.file + 1, byte=0, checksum=0)
            if following.file == len(self._paths):
                self._require(found)
                following, found = following._replace(lap=start.lap + 1, file=0), False
        self._last = self._behind()
        self._start, self._block, self._decoded, self._used = start, block, decoded, 0
        self._next, self._any = following, found

    def _require_same(self, block: Block) -> None:
        if block.identity != (self._identity or block.identity):
            raise StreamError(
                f"Text.stream(follow=True): {str(self._paths[0])!r} is another file now, as when a "
                f"log is rotated. {self._next.byte} bytes of the old one were read. Follow the new "
                "one from its beginning, or read the rest of the old one by its new name."
            )
        self._identity = block.identity

    def _require(self, found: bool) -> None:
        if not found:
            raise StreamError(
                "Text.stream(): there is no symbol of the alphabet in "
                f"{', '.join(map(str, self._paths))}. They are empty, or were changed; open others."
            )
