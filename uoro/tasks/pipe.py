"""Standard input, or any pipe, as a source of symbols that a run can resume."""

from __future__ import annotations

import os
import select
import zlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from uoro.errors import StreamError
from uoro.files.forms import MARK, TOOLS, compression, marked, require_text, single_byte, undecided
from uoro.learning.stream import not_a_position, require_numbers
from uoro.tasks.alphabet import NOTHING, Alphabet
from uoro.tasks.growing import GrowingStream
from uoro.tasks.pairs import Symbols

Resume: TypeAlias = Literal["restarts", "continues"]

STANDARD_INPUT = 0
MOST_BYTES = 1 << 16
READ_AHEAD = 4096


@dataclass(frozen=True)
class Pipe:
    """The bytes of a file descriptor as a source of symbols.

    Args:
        symbols: The alphabet.
        descriptor: The file descriptor; default that of standard input.
        resume: How the pipe behaves when a stream continues at a position: it ``"restarts"`` at
            its first byte, or ``"continues"`` after the last byte read; default ``"restarts"``.
    """

    symbols: Alphabet
    descriptor: int = STANDARD_INPUT
    resume: Resume = "restarts"

    @property
    def alphabet(self) -> str:
        """The symbols in order; bytes are shown as Latin-1."""
        return self.symbols.symbols

    @property
    def entropy_rate(self) -> None:
        """``None``: unknown."""
        return

    def stream(self, seed: int = 0) -> GrowingStream:
        """Return the stream of ``{"symbol", "target"}`` of all bytes from now on.

        Args:
            seed: Not used.
        """
        reader = PipeReader(self.symbols, self.descriptor, self.resume)
        return GrowingStream(reader, reader.wait, reader.catch_up)


class PipePlace(NamedTuple):
    """A place in the bytes of a pipe.

    Attributes:
        byte: Number of bytes before.
        checksum: CRC-32 of the bytes before.
        skipped: Number of malformed symbols before.
    """

    byte: int
    checksum: int
    skipped: int

    def on(self, data: bytes, *, skipped: int = 0) -> PipePlace:
        """Return the place behind further bytes, of which ``skipped`` symbols were left out."""
        return PipePlace(
            self.byte + len(data), zlib.crc32(data, self.checksum), self.skipped + skipped
        )


class PipeReader:
    """The symbols that have come through a pipe.

    The reader reads few bytes ahead, because a position holds all bytes read ahead.

    Args:
        alphabet: The alphabet.
        descriptor: The file descriptor.
        resume: How the pipe behaves when a stream continues at a position; see `Pipe`.
    """

    def __init__(self, alphabet: Alphabet, descriptor: int, resume: Resume) -> None:
        self._alphabet = alphabet
        self._descriptor = descriptor
        self._resume = resume
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._goal: PipePlace | None = None
        self._promised = b""
        self._closed = False
        self._decode(PipePlace(0, 0, 0), b"")

    @property
    def size(self) -> int:
        """Number of symbols of the alphabet."""
        return len(self._alphabet.codes)

    @property
    def skipped(self) -> int:
        """Number of malformed symbols left out so far."""
        return (self._goal or self._behind()[0]).skipped

    @property
    def position(self) -> dict[str, Any]:
        """Position of the end of the last symbol read, and the bytes read behind it, in hex."""
        place, unread = (self._goal, self._promised) if self._goal else self._behind()
        return {**place._asdict(), "unread": unread.hex()}

    def seek(self, position: Any) -> None:
        """Continue at a position; if the pipe restarts, `catch_up` reads up to the position.

        Raises:
            StreamError: If the position is invalid, or before the bytes read.
        """
        place, unread = _parse(position)
        if position == self.position:
            return
        here, held = self._behind()
        if self._resume == "continues":
            if here.byte or held:
                raise StreamError(
                    "Pipe.seek(position): expected a new stream, got one that was read already."
                )
            self._decode(place, unread)
            return
        if place.byte < here.byte:
            raise StreamError(
                f"Pipe.seek(position): expected a position behind the {here.byte} bytes read, got "
                f"byte {place.byte}. A pipe does not go back; restart it."
            )
        self._place, self._data, self._decoded, self._used = here, held, NOTHING, 0
        self._goal, self._promised = place, unread

    def catch_up(self) -> bool:
        """Read up to the position as far as bytes have come; return whether it is reached.

        Raises:
            StreamError: If other bytes come, or fewer.
        """
        goal = self._goal
        if goal is None:
            return True
        while missing := goal.byte - self._place.byte:
            self._data = self._data or self._receive(missing)
            if not self._data:
                if self._closed:
                    raise _refusal(goal, f"it ended after {self._place.byte}")
                return False
            self._place = self._place.on(self._data[:missing])
            self._data = self._data[missing:]
        if self._place.checksum != goal.checksum:
            raise _refusal(goal, "they are others now")
        self._goal = None
        self._decode(goal, self._data)
        return True

    def read(self, count: int) -> Symbols | None:
        """Return at most ``count`` of the symbols that have come; ``None`` if the pipe is closed.

        Raises:
            StreamError: If the pipe cannot be read, or a malformed symbol comes.
        """
        if not self.catch_up():
            return NOTHING.symbols
        while self._used == len(self._decoded.symbols):
            if not self._read_on(count):
                return None if self._closed else NOTHING.symbols
        part = self._decoded.symbols[self._used : self._used + count]
        self._used += len(part)
        return part

    def wait(self, seconds: float) -> None:
        """Wait until bytes come, the pipe is closed, or the time is over."""
        self._poll.poll(1000 * seconds)

    def _decode(self, place: PipePlace, data: bytes) -> None:
        """Continue at a place, with bytes read behind it."""
        self._place, self._data, self._decoded, self._used = place, data, NOTHING, 0
        if not place.byte:
            if undecided(data) and not self._closed:
                return
            self._place, self._data = self._begin(place, data)
        self._decoded = self._alphabet.decode(self._data, final=self._closed)

    def _begin(self, place: PipePlace, data: bytes) -> tuple[PipePlace, bytes]:
        """Check the first bytes of the pipe; return the place behind a byte-order mark."""
        as_text, packed = self._alphabet.encoding == "utf-8", compression(data)
        encoding = marked(data) if as_text else None
        if packed or encoding:
            tool = f"{TOOLS[packed]} FILE" if packed else f"iconv -f {encoding} -t UTF-8 FILE"
            raise StreamError(
                f"Pipe.stream(): expected plain UTF-8 or bytes, got {packed or encoding}. Convert "
                f"it before it comes: {tool} | …; or read the file itself."
            )
        if as_text:
            require_text("Pipe.stream()", "the pipe", data)
        if not as_text or not data.startswith(MARK):
            return place, data
        return place.on(MARK), data[len(MARK) :]

    def _behind(self) -> tuple[PipePlace, bytes]:
        """Return the place behind the last symbol read, and the bytes read behind it."""
        if not self._used:
            return self._place, self._data
        end = int(self._decoded.ends[self._used - 1])
        skipped = int(self._decoded.skipped[self._used - 1])
        return self._place.on(self._data[:end], skipped=skipped), self._data[end:]

    def _read_on(self, count: int) -> bool:
        """Decode the bytes that have come, perhaps no symbol; return whether any have."""
        decoded = self._decoded
        if decoded.stranger and not len(decoded.symbols):
            looks = single_byte(self._data, final=self._closed)
            latin = looks and self._alphabet.encoding == "utf-8"
            raise StreamError(
                f"Pipe.stream(): byte {self._place.byte} begins {decoded.stranger}. "
                f"{f'The text looks like {looks}. ' if latin else ''}It is not in "
                "the alphabet: pass an alphabet that has it, or leave out what is malformed: "
                "malformed='skip'."
            )
        more = b""
        if not decoded.stranger:
            was_closed = self._closed
            more = self._receive(max(READ_AHEAD, count))
            if not more and was_closed == self._closed:
                if decoded is NOTHING:
                    self._decode(self._place, self._data)  # A form that was refused is so again.
                return False
        done, rest = self._data[: decoded.consumed], self._data[decoded.consumed :]
        self._decode(self._place.on(done, skipped=decoded.left_out), rest + more)
        return True

    def _receive(self, most: int) -> bytes:
        """Read the bytes that have come, without waiting."""
        if self._closed or not self._poll.poll(0):
            return b""
        try:
            data = os.read(self._descriptor, min(most, MOST_BYTES))
        except BlockingIOError:
            return b""
        except OSError as error:
            raise StreamError(
                f"Pipe.stream(): the pipe cannot be read: {error.strerror}."
            ) from error
        self._closed = not data
        return data


def _refusal(goal: PipePlace, what: str) -> StreamError:
    return StreamError(
        f"Pipe.seek(position): expected the {goal.byte} bytes read before, but {what}. Restart the "
        "pipe from its first byte; or if it continues behind them, pass resume='continues'."
    )


def _parse(position: Any) -> tuple[PipePlace, bytes]:
    names = {*PipePlace._fields, "unread"}
    unread = position.get("unread") if type(position) is dict else None
    try:
        held = bytes.fromhex(unread) if type(unread) is str else None
    except ValueError:
        held = None
    if held is None or held.hex() != unread or set(position) != names:
        wanted = f"a dict of {', '.join(map(repr, PipePlace._fields))}, and 'unread', bytes in hex"
        raise not_a_position("Pipe", position, wanted)
    numbers = {name: position[name] for name in PipePlace._fields}
    return PipePlace(*require_numbers("Pipe", numbers, *PipePlace._fields)), held
