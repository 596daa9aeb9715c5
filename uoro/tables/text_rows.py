"""The rows of files of CSV or TSV, in several laps, from any position on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uoro.errors import StreamError
from uoro.files.content import Content, behind_mark
from uoro.files.places import BEGINNING, BLOCK_BYTES, Block, Place
from uoro.learning.stream import not_a_position, require_numbers
from uoro.tables.arrow import Matrix
from uoro.tables.dialect import Dialect, dialect_of, whole_lines
from uoro.tables.lines import NOTHING, Malformed, Parser, read_head


def read_beginning(
    call: str, path: Path, *, follow: bool = False, malformed: Malformed = "stop"
) -> Any:
    """Return the first rows of a file as an Arrow table, with the types that its cells show.

    Raises:
        StreamError: If the file cannot be read, or has no header or no rows.
    """
    content = Content(as_text=True, growing=follow)
    _, block = behind_mark(BEGINNING, content.block(call, path, 0, 0))
    dialect = _dialect(call, path, block)
    final = block.ends and not follow
    if len(whole_lines(block.data, final=final)) < 2 and not block.ends:
        raise StreamError(
            f"{call}: line 2: expected a line below {BLOCK_BYTES} bytes, got a longer one. Cut the "
            "table into narrower ones."
        )
    return read_head(call, block.data, dialect, final=final, malformed=malformed)


def _dialect(call: str, path: Path, block: Block) -> Dialect:
    ends = whole_lines(block.data, final=block.ends)
    if not len(ends):
        why = "an empty file" if not block.data else f"a line of {BLOCK_BYTES} bytes or more"
        raise StreamError(
            f"{call}: expected a header with names of columns, got {why}: {str(path)!r}."
        )
    first, rest = block.data[: ends[0]], block.data[ends[0] :]
    return dialect_of(f"{call}: {str(path)!r}", first, rest.partition(b"\n")[0])


class TextRows:
    """The rows of files, one file after the other, in several laps.

    No file is open between two blocks. At each block a checksum confirms that the bytes before it
    are the bytes that were read.

    Args:
        paths: Paths of the files.
        parser: Parser of their lines.
        laps: Number of passes over the files.
        follow: Whether the file, a single one, may grow.
    """

    def __init__(
        self, paths: Sequence[Path], parser: Parser, *, laps: int = 1, follow: bool = False
    ) -> None:
        self._paths, self._parser, self._laps, self._follow = paths, parser, laps, follow
        self._content = Content(as_text=True, growing=follow)
        self._dialect: tuple[int, Dialect] | None = None
        self._identity: tuple[int, int] | None = None
        self._stand(BEGINNING, 0)

    @property
    def lap(self) -> int:
        """Number of times that all files were read before the last row."""
        return self._start.lap

    @property
    def skipped(self) -> int:
        """Number of malformed rows and cells left out so far, in all laps."""
        return self._behind()[0].skipped

    @property
    def position(self) -> dict[str, int]:
        """Position of the end of the last row read, with a checksum of the bytes before."""
        place, line = self._behind()
        return place._asdict() | {"line": line}

    def seek(self, position: Any) -> None:
        """Continue at a position.

        Raises:
            StreamError: If the position is invalid, or the file differs from the one read.
        """
        *numbers, line = require_numbers("table", position, *Place._fields, "line")
        place = Place(*numbers)
        if place.file >= len(self._paths) or place.lap >= self._laps:
            last = place.file in (0, len(self._paths)) and place.lap == self._laps
            if not (last and not place.byte):
                wanted = f"a 'file' below {len(self._paths)}, a 'lap' below {self._laps}"
                raise not_a_position("table", position, wanted)
        else:
            path = self._paths[place.file]
            self._content.block("table.seek(position)", path, place.byte, place.checksum)
        self._stand(place, line)

    def read(self, count: int) -> Matrix | None:
        """Return at most ``count`` rows of one lap; ``None`` at the end.

        Raises:
            StreamError: If a file cannot be read, was changed, or holds a malformed row.
        """
        while self._used == len(self._parsed.rows):
            if self._next.lap == self._laps:
                return None
            self._read_on()
            if self._follow and self._block.ends and not len(self._parsed.rows):
                break
        part = self._parsed.rows[self._used : self._used + count]
        self._used += len(part)
        return part

    def wait(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def catch_up(self) -> bool:
        """Return true: a file is read on from any place."""
        return True

    def _stand(self, place: Place, line: int) -> None:
        """Continue at a place, with nothing read behind it."""
        self._last = self._start = self._next = place
        self._last_line = self._start_line = self._next_line = line
        self._block, self._parsed, self._used = Block(b"", b"", True, (0, 0)), NOTHING, 0

    def _behind(self) -> tuple[Place, int]:
        """Return the place and the number of lines behind the last row read."""
        if not self._used:
            return self._last, self._last_line
        row = self._used - 1
        end, skipped = int(self._parsed.ends[row]), int(self._parsed.skipped[row])
        line = self._start_line + int(self._parsed.lines[row])
        return self._start.on(self._block, end, skipped), line

    def _read_on(self) -> None:
        """Read and parse the next block, which may hold no row."""
        place, line = self._next, self._next_line
        path = self._paths[place.file]
        call = f"table({str(path)!r})"
        block = self._content.block(call, path, place.byte, place.checksum)
        if self._follow:
            self._require_same(block)
        place, block = behind_mark(place, block)
        dialect = self._dialect_of(call, place.file, block, beginning=not line)
        if not line:
            header = int(whole_lines(block.data, final=block.ends)[0])
            place, line = place.on(block, header, 0), 1
            before = (block.before + block.data[:header])[-256:]
            block = block._replace(before=before, data=block.data[header:])
        final = block.ends and not self._follow
        parsed = self._parser.parse(call, block.data, dialect, final=final, line=line)
        if not parsed.consumed and not block.ends:
            raise StreamError(
                f"{call}: line {line + 1}: expected a line below {BLOCK_BYTES} bytes, got a longer "
                "one. Cut the table into narrower ones."
            )
        following = place.on(block, parsed.consumed, parsed.left_out)
        next_line = line + parsed.passed
        if block.ends and parsed.consumed == len(block.data) and not self._follow:
            following = following._replace(file=place.file + 1, byte=0, checksum=0)
            next_line = 0
            if following.file == len(self._paths):
                following = following._replace(lap=place.lap + 1, file=0)
        self._last, self._last_line = self._behind()
        self._start, self._start_line, self._block = place, line, block
        self._parsed, self._used = parsed, 0
        self._next, self._next_line = following, next_line

    def _dialect_of(self, call: str, file: int, block: Block, *, beginning: bool) -> Dialect:
        """Return how a file is written, after checking that it has the columns."""
        if self._dialect is None or self._dialect[0] != file:
            path = self._paths[file]
            if not beginning:
                own = Content(as_text=True, growing=self._follow)
                _, block = behind_mark(BEGINNING, own.block(call, path, 0, 0))
            dialect = _dialect(call, path, block)
            self._parser.columns.require_in(call, dialect.header)
            self._dialect = file, dialect
        return self._dialect[1]

    def _require_same(self, block: Block) -> None:
        if block.identity != (self._identity or block.identity):
            raise StreamError(
                f"table({str(self._paths[0])!r}, follow=True): it is another file now, as when a "
                f"log is rotated. {self._next.byte} bytes of the old one were read. Follow the new "
                "one from its beginning, or read the rest of the old one by its new name."
            )
        self._identity = block.identity
