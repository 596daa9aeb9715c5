"""The rows of CSV or TSV that come through standard input, or any pipe."""

from __future__ import annotations

from typing import Any

from uoro.errors import StreamError
from uoro.files.forms import MARK
from uoro.files.pipes import Bytes, PipeReader, Place, Resume, require_plain
from uoro.learning.stream import not_a_position
from uoro.tables.dialect import Dialect, dialect_of, whole_lines
from uoro.tables.lines import NOTHING, Parser, read_head

READ_AHEAD = 1 << 14
CALL = "table('-')"


def wait_for_beginning(source: Bytes) -> tuple[bytes, Dialect, Any]:
    """Wait for a header and a row; return all that has come, how it is written, and its rows.

    Raises:
        StreamError: If the pipe is closed before, or carries something else than a table.
    """
    data = b""
    while not source.closed and (data.count(b"\n") < 2 or source.ready()):
        if len(data) >= READ_AHEAD and data.count(b"\n") >= 2:
            break
        source.wait(0.2)
        data += source.receive(READ_AHEAD)
    data = data.removeprefix(MARK)
    if not data:
        raise StreamError(f"{CALL}: expected a header and rows, got nothing: the pipe is closed.")
    require_plain(CALL, data)
    header = int(whole_lines(data, final=True)[0])
    dialect = dialect_of(CALL, data[:header], data[header:].partition(b"\n")[0])
    return data, dialect, read_head(CALL, data, dialect, final=source.closed, malformed="stop")


class PipeRows(PipeReader):
    """The rows that have come through a pipe.

    Args:
        source: Bytes of the pipe.
        parser: Parser of its lines.
        beginning: Bytes that were read already, from the header on.
        dialect: How they are written; ``None`` if nothing was read.
        resume: How the pipe behaves when a stream continues at a position.
    """

    lap = 0
    call, counts, more, nothing = "table", ("line", "skipped"), ("dialect",), NOTHING

    def __init__(
        self,
        source: Bytes,
        parser: Parser,
        beginning: bytes = b"",
        dialect: Dialect | None = None,
        *,
        resume: Resume = "restarts",
    ) -> None:
        self._parser, self._dialect = parser, dialect
        super().__init__(source, resume, beginning)

    @property
    def position(self) -> dict[str, Any]:
        """Position of the end of the last row read, the bytes behind it, and the dialect."""
        dialect = None if self._dialect is None else [list(self._dialect[0]), *self._dialect[1:]]
        return {**super().position, "dialect": dialect}

    def seek(self, position: Any) -> None:
        """Continue at a position; see `PipeReader.seek`."""
        super().seek(position)
        self._dialect = _dialect_in(position)

    def _parse(self, position: Any) -> tuple[Place, bytes]:
        found = super()._parse(position)
        _dialect_in(position)
        return found

    def _counted(self, index: int) -> tuple[int, ...]:
        return self._parsed.lines[index], self._parsed.skipped[index]

    def _read_on(self, count: int) -> bool:
        """Parse the bytes that have come, perhaps no row; return whether anything has changed."""
        parsed = self._parsed
        if parsed.consumed:
            done, rest = self._data[: parsed.consumed], self._data[parsed.consumed :]
            self._stand(self._place.on(done, (parsed.passed, parsed.left_out)), rest)
        before = len(self._data)
        if not parsed.consumed or not self._data:
            self._data += self._source.receive(READ_AHEAD)
        if not self._place.counts[0] and not self._begin():
            return len(self._data) > before
        assert self._dialect is not None
        final = self._source.closed
        self._parsed = self._parser.parse(
            CALL, self._data, self._dialect, final=final, line=self._place.counts[0]
        )
        return bool(self._parsed.consumed) or len(self._data) > before

    def _begin(self) -> bool:
        """Read the header; return whether it has come whole."""
        ends = whole_lines(self._data, final=self._source.closed)
        if not len(ends):
            return False
        header, rest = self._data[: int(ends[0])], self._data[int(ends[0]) :]
        if self._dialect is None:
            self._dialect = dialect_of(CALL, header, rest.partition(b"\n")[0])
        self._parser.columns.require_in(CALL, self._dialect.header)
        self._stand(self._place.on(header, (1, 0)), rest)
        return True


def _dialect_in(position: Any) -> Dialect | None:
    written = position["dialect"]
    try:
        return None if written is None else Dialect(tuple(map(str, written[0])), *written[1:])
    except (TypeError, IndexError, KeyError) as error:
        wanted = "None or a list of names and settings as 'dialect'"
        raise not_a_position("table", position, wanted) from error
