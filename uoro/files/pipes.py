"""Standard input, or any pipe: its bytes as they come, and a place in them to resume at."""

from __future__ import annotations

import os
import select
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from uoro.errors import StreamError
from uoro.files.forms import TOOLS, compression, marked, require_text
from uoro.learning.stream import not_a_position, require_numbers

Resume: TypeAlias = Literal["restarts", "continues"]

STANDARD_INPUT = 0
MOST_BYTES = 1 << 16


class Bytes:
    """The bytes of a file descriptor, as they come.

    Args:
        call: Call to name in errors.
        descriptor: File descriptor.

    Attributes:
        call: Call to name in errors.
        closed: Whether the other side has closed the pipe.
    """

    def __init__(self, call: str, descriptor: int) -> None:
        self.call, self._descriptor = call, descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self.closed = False

    def wait(self, seconds: float) -> None:
        """Wait until bytes come, the pipe is closed, or the time is over."""
        self._poll.poll(1000 * seconds)

    def ready(self) -> bool:
        """Return whether bytes have come, or the pipe is closed."""
        return bool(self._poll.poll(0))

    def receive(self, most: int) -> bytes:
        """Read at most so many of the bytes that have come, without waiting.

        Raises:
            StreamError: If the pipe cannot be read.
        """
        if self.closed or not self.ready():
            return b""
        try:
            data = os.read(self._descriptor, min(most, MOST_BYTES))
        except BlockingIOError:
            return b""
        except OSError as error:
            raise StreamError(f"{self.call}: the pipe cannot be read: {error.strerror}.") from error
        self.closed = not data
        return data


def require_plain(call: str, data: bytes, *, text: bool = True) -> None:
    """Check that a pipe does not begin with a compressed form, nor in another encoding.

    Args:
        call: Call to name in errors.
        data: First bytes of the pipe.
        text: Whether they have to be UTF-8.

    Raises:
        StreamError: If it does.
    """
    packed, encoding = compression(data), marked(data) if text else None
    if packed or encoding:
        tool = f"{TOOLS[packed]} FILE" if packed else f"iconv -f {encoding} -t UTF-8 FILE"
        raise StreamError(
            f"{call}: expected plain {'UTF-8' if text else 'bytes'}, got {packed or encoding}. "
            f"Convert it before it comes: {tool} | …; or read the file itself."
        )
    if text:
        require_text(call, "the pipe", data)


class Place(NamedTuple):
    """A place in the bytes of a pipe.

    Attributes:
        byte: Number of bytes before.
        checksum: CRC-32 of the bytes before.
        counts: What was counted before, such as lines.
    """

    byte: int
    checksum: int
    counts: tuple[int, ...]

    def on(self, data: bytes, counts: Sequence[int]) -> Place:
        """Return the place behind further bytes, with what was counted in them."""
        counted = tuple(int(a + b) for a, b in zip(self.counts, counts, strict=True))
        return Place(self.byte + len(data), zlib.crc32(data, self.checksum), counted)


class PipeReader(ABC):
    """What has come through a pipe, and the place behind what was read of it.

    Args:
        source: Bytes of the pipe.
        resume: How the pipe behaves when a stream continues at a position: it ``"restarts"`` at
            its first byte, or ``"continues"`` after the last byte read.
        beginning: Bytes that were read already.

    Attributes:
        call: Name of the stream in errors.
        counts: What is counted, by name; the last is what was left out.
        more: Further names of a position.
        nothing: What is parsed of no bytes: in its first entry what is read, in ``ends`` the
            number of bytes up to the end of each.
    """

    call: ClassVar[str]
    counts: ClassVar[tuple[str, ...]]
    more: ClassVar[tuple[str, ...]] = ()
    nothing: ClassVar[Any]
    _place: Place
    _data: bytes

    def __init__(self, source: Bytes, resume: Resume, beginning: bytes = b"") -> None:
        self._source, self._resume = source, resume
        self._goal: tuple[Place, bytes] | None = None
        self._begin_at(Place(0, 0, (0,) * len(self.counts)), beginning)

    @property
    def skipped(self) -> int:
        """Number of malformed parts left out so far."""
        return (self._goal or self._behind())[0].counts[-1]

    @property
    def position(self) -> dict[str, Any]:
        """Position of the end of what was read, and the bytes read behind it, in hex."""
        (byte, checksum, counts), unread = self._goal or self._behind()
        counted = dict(zip(self.counts, counts, strict=True))
        return {"byte": byte, "checksum": checksum, **counted, "unread": unread.hex()}

    def seek(self, position: Any) -> None:
        """Continue at a position; if the pipe restarts, `catch_up` reads up to the position.

        Raises:
            StreamError: If the position is invalid, or before the bytes read.
        """
        place, unread = self._parse(position)
        if position == self.position:
            return
        here, held = self._behind()
        if self._resume == "continues":
            if here.byte or held:
                raise StreamError(
                    f"{self.call}.seek(position): expected a new stream, got one that was read "
                    "already."
                )
            self._begin_at(place, unread)
            return
        if place.byte < here.byte:
            raise StreamError(
                f"{self.call}.seek(position): expected a position behind the {here.byte} bytes "
                f"read, got byte {place.byte}. A pipe does not go back; restart it."
            )
        self._stand(here, held)
        self._goal = place, unread

    def catch_up(self) -> bool:
        """Read up to the position as far as bytes have come; return whether it is reached.

        Raises:
            StreamError: If other bytes come, or fewer.
        """
        if self._goal is None:
            return True
        goal, none = self._goal[0], (0,) * len(self.counts)
        while missing := goal.byte - self._place.byte:
            self._data = self._data or self._source.receive(missing)
            if not self._data:
                if self._source.closed:
                    raise self._refusal(goal, f"it ended after {self._place.byte}")
                return False
            self._place = self._place.on(self._data[:missing], none)
            self._data = self._data[missing:]
        if self._place.checksum != goal.checksum:
            raise self._refusal(goal, "they are others now")
        self._goal = None
        self._begin_at(goal, self._data)
        return True

    def read(self, count: int) -> Any:
        """Return at most ``count`` of what has come; ``None`` if the pipe is closed.

        Raises:
            StreamError: If the pipe cannot be read, or something malformed comes.
        """
        if not self.catch_up():
            return self.nothing[0]
        while self._used == len(self._parsed[0]):
            if not self._read_on(count):
                return None if self._source.closed else self.nothing[0]
        part = self._parsed[0][self._used : self._used + count]
        self._used += len(part)
        return part

    def wait(self, seconds: float) -> None:
        """Wait until bytes come, the pipe is closed, or the time is over."""
        self._source.wait(seconds)

    @abstractmethod
    def _read_on(self, count: int) -> bool:
        """Parse the bytes that have come; return whether anything has changed."""

    @abstractmethod
    def _counted(self, index: int) -> tuple[int, ...]:
        """Return what was counted up to the end of a part."""

    def _begin_at(self, place: Place, data: bytes) -> None:
        """Continue at a place, with bytes read behind it."""
        self._stand(place, data)

    def _stand(self, place: Place, data: bytes) -> None:
        self._place, self._data, self._parsed, self._used = place, data, self.nothing, 0

    def _behind(self) -> tuple[Place, bytes]:
        """Return the place behind what was read, and the bytes read behind it."""
        if not self._used:
            return self._place, self._data
        end = int(self._parsed.ends[self._used - 1])
        return self._place.on(self._data[:end], self._counted(self._used - 1)), self._data[end:]

    def _parse(self, position: Any) -> tuple[Place, bytes]:
        """Return the place and the bytes of a position.

        Raises:
            StreamError: If the position is invalid.
        """
        names = ("byte", "checksum", *self.counts)
        unread = position.get("unread") if type(position) is dict else None
        try:
            held = bytes.fromhex(unread) if type(unread) is str else None
        except ValueError:
            held = None
        if held is None or held.hex() != unread or set(position) != {*names, "unread", *self.more}:
            listed = ", ".join(map(repr, (*names, *self.more)))
            wanted = f"a dict of {listed}, and 'unread', bytes in hex"
            raise not_a_position(self.call, position, wanted)
        numbers = {name: position[name] for name in names}
        byte, checksum, *counts = require_numbers(self.call, numbers, *names)
        return Place(byte, checksum, tuple(counts)), held

    def _refusal(self, goal: Place, what: str) -> StreamError:
        return StreamError(
            f"{self.call}.seek(position): expected the {goal.byte} bytes read before, but {what}. "
            "Restart the pipe from its first byte; or if it continues behind them, pass "
            "resume='continues'."
        )
