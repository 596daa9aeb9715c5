"""The rows of CSV or TSV that come through standard input, or any pipe."""

from __future__ import annotations

import os
import select
import zlib
from typing import Any, Literal, NamedTuple, TypeAlias

from uoro.errors import StreamError
from uoro.files.forms import MARK, TOOLS, compression, marked, require_text
from uoro.learning.stream import not_a_position, require_numbers
from uoro.tables.arrow import Matrix
from uoro.tables.dialect import Dialect, dialect_of, whole_lines
from uoro.tables.lines import NOTHING, Parser, read_head

Resume: TypeAlias = Literal["restarts", "continues"]

STANDARD_INPUT = 0
MOST_BYTES = 1 << 14
CALL = "table('-')"


class PipePlace(NamedTuple):
    """A place in the bytes of a pipe.

    Attributes:
        byte: Number of bytes before.
        checksum: CRC-32 of the bytes before.
        line: Number of lines before.
        skipped: Number of malformed rows and cells left out before.
    """

    byte: int
    checksum: int
    line: int
    skipped: int

    def on(self, data: bytes, lines: int, skipped: int) -> PipePlace:
        """Return the place behind further bytes."""
        return PipePlace(
            self.byte + len(data),
            zlib.crc32(data, self.checksum),
            self.line + lines,
            self.skipped + skipped,
        )


class Bytes:
    """The bytes of a file descriptor, as they come.

    Args:
        descriptor: File descriptor.

    Attributes:
        closed: Whether the other side has closed the pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self.closed = False

    def wait(self, seconds: float) -> None:
        """Wait until bytes come, the pipe is closed, or the time is over."""
        self._poll.poll(1000 * seconds)

    def ready(self) -> bool:
        """Return whether bytes have come, or the pipe is closed."""
        return bool(self._poll.poll(0))

    def receive(self, most: int = MOST_BYTES) -> bytes:
        """Read the bytes that have come, without waiting.

        Raises:
            StreamError: If the pipe cannot be read.
        """
        if self.closed or not self._poll.poll(0):
            return b""
        try:
            data = os.read(self._descriptor, min(most, MOST_BYTES))
        except BlockingIOError:
            return b""
        except OSError as error:
            raise StreamError(f"{CALL}: the pipe cannot be read: {error.strerror}.") from error
        self.closed = not data
        return data


def wait_for_beginning(source: Bytes) -> tuple[bytes, Dialect, Any]:
    """Wait for a header and a row; return all that has come, how it is written, and its rows.

    Raises:
        StreamError: If the pipe is closed before, or carries something else than a table.
    """
    data = b""
    while not source.closed and (data.count(b"\n") < 2 or source.ready()):
        if len(data) >= MOST_BYTES and data.count(b"\n") >= 2:
            break
        source.wait(0.2)
        data += source.receive()
    data = data.removeprefix(MARK)
    packed, encoding = compression(data), marked(data)
    if packed or encoding:
        tool = f"{TOOLS[packed]} FILE" if packed else f"iconv -f {encoding} -t UTF-8 FILE"
        raise StreamError(
            f"{CALL}: expected plain UTF-8, got {packed or encoding}. Convert it before it comes: "
            f"{tool} | …; or read the file itself."
        )
    if not data:
        raise StreamError(f"{CALL}: expected a header and rows, got nothing: the pipe is closed.")
    require_text(CALL, "the pipe", data)
    header = int(whole_lines(data, final=True)[0])
    dialect = dialect_of(CALL, data[:header], data[header:].partition(b"\n")[0])
    return data, dialect, read_head(CALL, data, dialect, final=source.closed, malformed="stop")


class PipeRows:
    """The rows that have come through a pipe.

    Args:
        source: Bytes of the pipe.
        parser: Parser of its lines.
        beginning: Bytes that were read already, from the header on.
        dialect: How they are written; ``None`` if nothing was read.
        resume: How the pipe behaves when a stream continues at a position: it ``"restarts"`` at
            its first byte, or ``"continues"`` after the last byte read.
    """

    lap = 0

    def __init__(
        self,
        source: Bytes,
        parser: Parser,
        beginning: bytes = b"",
        dialect: Dialect | None = None,
        *,
        resume: Resume = "restarts",
    ) -> None:
        self._source, self._parser, self._resume = source, parser, resume
        self._dialect = dialect
        self._goal: tuple[PipePlace, bytes] | None = None
        self._place, self._data = PipePlace(0, 0, 0, 0), beginning
        self._parsed, self._used = NOTHING, 0

    @property
    def skipped(self) -> int:
        """Number of malformed rows and cells left out so far."""
        return (self._goal or self._behind())[0].skipped

    @property
    def position(self) -> dict[str, Any]:
        """Position of the end of the last row read, and the bytes read behind it, in hex."""
        place, unread = self._goal or self._behind()
        dialect = None if self._dialect is None else [list(self._dialect[0]), *self._dialect[1:]]
        return {**place._asdict(), "unread": unread.hex(), "dialect": dialect}

    def seek(self, position: Any) -> None:
        """Continue at a position; if the pipe restarts, `catch_up` reads up to the position.

        Raises:
            StreamError: If the position is invalid, or bytes were read already.
        """
        place, unread, dialect = _parse(position)
        if position == self.position:
            return
        if self._place.byte or self._used:
            raise StreamError(
                "table.seek(position): expected a new stream, got one that was read already. A "
                "pipe does not go back; restart it."
            )
        self._dialect = dialect
        if self._resume == "continues":
            self._stand(place, unread)
        else:
            self._goal = place, unread

    def catch_up(self) -> bool:
        """Read up to the position as far as bytes have come; return whether it is reached.

        Raises:
            StreamError: If other bytes come, or fewer.
        """
        if self._goal is None:
            return True
        goal = self._goal[0]
        while missing := goal.byte - self._place.byte:
            self._data = self._data or self._source.receive(missing)
            if not self._data:
                if self._source.closed:
                    raise _refusal(goal, f"it ended after {self._place.byte}")
                return False
            self._place = self._place.on(self._data[:missing], 0, 0)
            self._data = self._data[missing:]
        if self._place.checksum != goal.checksum:
            raise _refusal(goal, "they are others now")
        self._goal = None
        self._stand(goal, self._data)
        return True

    def read(self, count: int) -> Matrix | None:
        """Return at most ``count`` of the rows that have come; ``None`` if the pipe is closed.

        Raises:
            StreamError: If the pipe cannot be read, or a malformed row comes.
        """
        if not self.catch_up():
            return NOTHING.rows
        while self._used == len(self._parsed.rows):
            if not self._read_on():
                return None if self._source.closed else NOTHING.rows
        part = self._parsed.rows[self._used : self._used + count]
        self._used += len(part)
        return part

    def wait(self, seconds: float) -> None:
        """Wait until bytes come, the pipe is closed, or the time is over."""
        self._source.wait(seconds)

    def _stand(self, place: PipePlace, data: bytes) -> None:
        self._place, self._data, self._parsed, self._used = place, data, NOTHING, 0

    def _behind(self) -> tuple[PipePlace, bytes]:
        """Return the place behind the last row read, and the bytes read behind it."""
        if not self._used:
            return self._place, self._data
        row, parsed = self._used - 1, self._parsed
        end = int(parsed.ends[row])
        lines, skipped = int(parsed.lines[row]), int(parsed.skipped[row])
        return self._place.on(self._data[:end], lines, skipped), self._data[end:]

    def _read_on(self) -> bool:
        """Parse the bytes that have come, perhaps no row; return whether anything has changed."""
        parsed = self._parsed
        if parsed.consumed:
            done, rest = self._data[: parsed.consumed], self._data[parsed.consumed :]
            self._stand(self._place.on(done, parsed.passed, parsed.left_out), rest)
        before = len(self._data)
        if not parsed.consumed or not self._data:
            self._data += self._source.receive()
        if not self._place.line and not self._begin():
            return len(self._data) > before
        assert self._dialect is not None
        final = self._source.closed
        self._parsed = self._parser.parse(
            CALL, self._data, self._dialect, final=final, line=self._place.line
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
        self._stand(self._place.on(header, 1, 0), rest)
        return True


def _refusal(goal: PipePlace, what: str) -> StreamError:
    return StreamError(
        f"table.seek(position): expected the {goal.byte} bytes read before, but {what}. Restart "
        "the pipe from its first byte; or if it continues behind them, pass resume='continues'."
    )


def _parse(position: Any) -> tuple[PipePlace, bytes, Dialect | None]:
    names = {*PipePlace._fields, "unread", "dialect"}
    wanted = f"a dict of {', '.join(map(repr, sorted(names)))}"
    if type(position) is not dict or set(position) != names:
        raise not_a_position("table", position, wanted)
    numbers = {name: position[name] for name in PipePlace._fields}
    place = PipePlace(*require_numbers("table", numbers, *PipePlace._fields))
    try:
        unread, written = bytes.fromhex(position["unread"]), position["dialect"]
        dialect = None if written is None else Dialect(tuple(map(str, written[0])), *written[1:])
    except (ValueError, TypeError, IndexError) as error:
        raise not_a_position("table", position, wanted) from error
    return place, unread, dialect
