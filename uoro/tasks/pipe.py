"""Standard input, or any pipe, as a sequence of symbols that can be taken up again."""

from __future__ import annotations

import os
import select
import zlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from uoro.errors import StreamError
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
    """Bytes that come through a descriptor, as symbols.

    Args:
        symbols: The alphabet.
        descriptor: The descriptor to read from; that of standard input if not given.
        resume: Whether the pipe ``"restarts"``, from its very first byte, for a stream that is
            sent to a position; or ``"continues"`` behind the last byte that was read.
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
        """Nobody knows it."""
        return

    def stream(self, seed: int = 0) -> GrowingStream:
        """Make the stream of ``{"symbol", "target"}`` of all that comes from now on.

        Args:
            seed: Not used: a text is what it is.
        """
        reader = PipeReader(self.symbols, self.descriptor, self.resume)
        return GrowingStream(reader, reader.wait, reader.catch_up)


class PipePlace(NamedTuple):
    """A place in what came through a pipe.

    Attributes:
        byte: How many bytes were before.
        checksum: The CRC-32 of them all.
        skipped: How much of them was left out.
    """

    byte: int
    checksum: int
    skipped: int

    def on(self, data: bytes, *, skipped: int = 0) -> PipePlace:
        """Go on by some bytes, of which some things were left out."""
        return PipePlace(
            self.byte + len(data), zlib.crc32(data, self.checksum), self.skipped + skipped
        )


class PipeReader:
    """The symbols that come through a pipe, as far as they have come.

    Few more bytes are read than symbols are asked for, as a position has to hold what was read
    too early.

    Args:
        alphabet: The symbols.
        descriptor: Where to read.
        resume: What the pipe does for a stream that is sent to a position.
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
        """How many symbols the alphabet has."""
        return len(self._alphabet.codes)

    @property
    def skipped(self) -> int:
        """How much was left out before the last symbol read."""
        return (self._goal or self._behind()[0]).skipped

    @property
    def position(self) -> dict[str, Any]:
        """The end of the last symbol read, and in hex the bytes that were read behind it."""
        place, unread = (self._goal, self._promised) if self._goal else self._behind()
        return {**place._asdict(), "unread": unread.hex()}

    def seek(self, position: Any) -> None:
        """Go on behind what was read before; `catch_up` reads that again if the pipe restarts.

        Raises:
            StreamError: If that is no position, or lies before what was read since.
        """
        place, unread = _parse(position)
        if position == self.position:
            return
        here, held = self._behind()
        if self._resume == "continues":
            if here.byte or held:
                raise StreamError(
                    "Pipe.seek(position): the pipe was read from already. Wanted is a stream that "
                    "nothing was taken of."
                )
            self._decode(place, unread)
            return
        if place.byte < here.byte:
            raise StreamError(
                f"Pipe.seek(position): that is behind {place.byte} bytes, and {here.byte} were "
                "read. A pipe does not go back; start it anew."
            )
        self._place, self._data, self._decoded, self._used = here, held, NOTHING, 0
        self._goal, self._promised = place, unread

    def catch_up(self) -> bool:
        """Read again what was read before, as far as it has come; say whether that is all of it.

        Raises:
            StreamError: If something else comes, or less.
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
        """Give what has come, at most ``count`` symbols; ``None`` once the pipe is closed.

        Raises:
            StreamError: If it cannot be read, or something malformed came.
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
        """Wait until something comes, or the pipe is closed, or the time is over."""
        self._poll.poll(1000 * seconds)

    def _decode(self, place: PipePlace, data: bytes) -> None:
        """Stand at a place, with these bytes behind it."""
        decoded = self._alphabet.decode(data, final=self._closed)
        self._place, self._data, self._decoded, self._used = place, data, decoded, 0

    def _behind(self) -> tuple[PipePlace, bytes]:
        """The place behind the last symbol read, and the bytes that were read behind it."""
        if not self._used:
            return self._place, self._data
        end = int(self._decoded.ends[self._used - 1])
        skipped = int(self._decoded.skipped[self._used - 1])
        return self._place.on(self._data[:end], skipped=skipped), self._data[end:]

    def _read_on(self, count: int) -> bool:
        """Decode what has come since, which may be no symbol; say whether anything has."""
        decoded = self._decoded
        if decoded.stranger and not len(decoded.symbols):
            raise StreamError(
                f"Pipe.stream(): byte {self._place.byte} begins {decoded.stranger}. It is not in "
                "the alphabet: give one that has it, or leave out what is malformed: "
                "malformed='skip'."
            )
        more = b""
        if not decoded.stranger:
            was_closed = self._closed
            more = self._receive(max(READ_AHEAD, count))
            if not more and was_closed == self._closed:
                return False
        done, rest = self._data[: decoded.consumed], self._data[decoded.consumed :]
        self._decode(self._place.on(done, skipped=decoded.left_out), rest + more)
        return True

    def _receive(self, most: int) -> bytes:
        """Read what is there, without waiting."""
        if self._closed or not self._poll.poll(0):
            return b""
        try:
            data = os.read(self._descriptor, min(most, MOST_BYTES))
        except BlockingIOError:
            return b""
        except OSError as error:
            raise StreamError(f"Pipe.stream(): it cannot be read: {error.strerror}.") from error
        self._closed = not data
        return data


def _refusal(goal: PipePlace, what: str) -> StreamError:
    return StreamError(
        f"Pipe.seek(position): {goal.byte} bytes were read before, and {what}. Wanted is a pipe "
        "that starts again with the very first of them; if it goes on behind them, say so: "
        "resume='continues'."
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
