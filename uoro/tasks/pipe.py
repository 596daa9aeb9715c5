"""Standard input, or any pipe, as a sequence of symbols that can be taken up again."""

from __future__ import annotations

import os
import select
import zlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from uoro.errors import StreamError
from uoro.stream import not_a_position, require_numbers
from uoro.tasks.alphabet import NOTHING, Alphabet
from uoro.tasks.growing import GrowingStream
from uoro.tasks.pairs import Symbols

Resume: TypeAlias = Literal["restarts", "continues"]

STANDARD_INPUT = 0
MOST_BYTES = 1 << 16


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

    No more bytes are read than symbols are asked for, so that hardly any are held.

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
        self._place = PipePlace(0, 0, 0)
        self._goal: PipePlace | None = None
        self._unread = b""
        self._closed = False

    @property
    def size(self) -> int:
        """How many symbols the alphabet has."""
        return len(self._alphabet.codes)

    @property
    def skipped(self) -> int:
        """How much was left out so far."""
        return (self._goal or self._place).skipped

    @property
    def position(self) -> dict[str, Any]:
        """What was read, and the bytes of half a character behind that."""
        unread = b"" if self._goal else self._unread
        return {**(self._goal or self._place)._asdict(), "unread": unread.hex()}

    def seek(self, position: Any) -> None:
        """Go on behind what was read before; `catch_up` reads that again if the pipe restarts.

        Raises:
            StreamError: If that is no position, or lies before what was read since.
        """
        place, unread = _parse(position)
        if position == self.position:
            return
        if self._resume == "continues":
            if self._place.byte or self._unread or self._goal:
                raise StreamError(
                    "Pipe.seek(position): the pipe was read from already. Wanted is a stream that "
                    "nothing was taken of."
                )
            self._place, self._unread = place, unread
            return
        if place.byte < self._place.byte:
            raise StreamError(
                f"Pipe.seek(position): that is behind {place.byte} bytes, and "
                f"{self._place.byte} were read. A pipe does not go back; start it anew."
            )
        self._goal = place

    def catch_up(self) -> bool:
        """Read again what was read before, as far as it has come; say whether that is all of it.

        Raises:
            StreamError: If something else comes, or less.
        """
        while self._goal is not None:
            missing = self._goal.byte - self._place.byte
            if missing == 0:
                break
            if not self._unread and not self._receive(missing):
                if self._closed:
                    raise self._refusal(f"it ended after {self._place.byte}")
                return False
            again, self._unread = self._unread[:missing], self._unread[missing:]
            self._place = self._place.on(again)
        if self._goal is not None:
            if self._place.checksum != self._goal.checksum:
                raise self._refusal("they are others now")
            self._place, self._goal = self._goal, None
        return True

    def read(self, count: int) -> Symbols | None:
        """Give what has come, at most ``count`` symbols; ``None`` once the pipe is closed.

        Raises:
            StreamError: If it cannot be read, or something malformed came.
        """
        if not self.catch_up():
            return NOTHING.symbols
        while True:
            decoded = self._alphabet.decode(self._unread, final=self._closed)
            if decoded.stranger and not len(decoded.symbols):
                raise StreamError(
                    f"Pipe.stream(): byte {self._place.byte} begins {decoded.stranger}. It is not "
                    "in the alphabet: give one that has it, or leave out what is malformed: "
                    "malformed='skip'."
                )
            done, self._unread = (
                self._unread[: decoded.consumed],
                self._unread[decoded.consumed :],
            )
            self._place = self._place.on(done, skipped=decoded.left_out)
            if len(decoded.symbols):
                return decoded.symbols
            if self._closed:
                return None
            if not self._receive(max(1, count - len(self._unread))) and not self._closed:
                return decoded.symbols

    def wait(self, seconds: float) -> None:
        """Wait until something comes, or the pipe is closed, or the time is over."""
        self._poll.poll(1000 * seconds)

    def _receive(self, most: int) -> bool:
        """Read what is there without waiting; say whether anything was."""
        if self._closed or not self._poll.poll(0):
            return False
        try:
            data = os.read(self._descriptor, min(most, MOST_BYTES))
        except BlockingIOError:
            return False
        except OSError as error:
            raise StreamError(f"Pipe.stream(): it cannot be read: {error.strerror}.") from error
        self._unread += data
        self._closed = not data
        return bool(data)

    def _refusal(self, what: str) -> StreamError:
        assert self._goal is not None
        return StreamError(
            f"Pipe.seek(position): {self._goal.byte} bytes were read before, and {what}. Wanted "
            "is a pipe that starts again with the very first of them; if it goes on behind them, "
            "say so: resume='continues'."
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
