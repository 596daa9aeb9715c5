"""Standard input, or any pipe, as a source of symbols that a run can resume."""

from __future__ import annotations

from dataclasses import dataclass

from uoro.errors import StreamError
from uoro.files.forms import MARK, single_byte, undecided
from uoro.files.pipes import STANDARD_INPUT, Bytes, PipeReader, Place, Resume, require_plain
from uoro.tasks.alphabet import NOTHING, Alphabet
from uoro.tasks.growing import GrowingStream

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
        reader = PipeSymbols(self.symbols, self.descriptor, self.resume)
        return GrowingStream(reader, reader.wait, reader.catch_up)


class PipeSymbols(PipeReader):
    """The symbols that have come through a pipe.

    The reader reads few bytes ahead, because a position holds all bytes read ahead.

    Args:
        alphabet: The alphabet.
        descriptor: The file descriptor.
        resume: How the pipe behaves when a stream continues at a position; see `Pipe`.
    """

    call, counts, nothing = "Pipe", ("skipped",), NOTHING

    def __init__(self, alphabet: Alphabet, descriptor: int, resume: Resume) -> None:
        self._alphabet = alphabet
        super().__init__(Bytes("Pipe.stream()", descriptor), resume)

    @property
    def size(self) -> int:
        """Number of symbols of the alphabet."""
        return len(self._alphabet.codes)

    def _counted(self, index: int) -> tuple[int, ...]:
        return (self._parsed.skipped[index],)

    def _begin_at(self, place: Place, data: bytes) -> None:
        self._stand(place, data)
        if not place.byte:
            if undecided(data) and not self._source.closed:
                return
            as_text = self._alphabet.encoding == "utf-8"
            require_plain(self._source.call, data, text=as_text)
            if as_text and data.startswith(MARK):
                self._place, self._data = place.on(MARK, (0,)), data[len(MARK) :]
        self._parsed = self._alphabet.decode(self._data, final=self._source.closed)

    def _read_on(self, count: int) -> bool:
        """Decode the bytes that have come, perhaps no symbol; return whether any have."""
        decoded = self._parsed
        if decoded.stranger and not len(decoded.symbols):
            looks = single_byte(self._data, final=self._source.closed)
            latin = looks and self._alphabet.encoding == "utf-8"
            raise StreamError(
                f"{self._source.call}: byte {self._place.byte} begins {decoded.stranger}. "
                f"{f'The text looks like {looks}. ' if latin else ''}It is not in "
                "the alphabet: pass an alphabet that has it, or leave out what is malformed: "
                "malformed='skip'."
            )
        more = b""
        if not decoded.stranger:
            was_closed = self._source.closed
            more = self._source.receive(max(READ_AHEAD, count))
            if not more and was_closed == self._source.closed:
                if decoded is NOTHING:
                    self._begin_at(self._place, self._data)  # A form that was refused is so again.
                return False
        done, rest = self._data[: decoded.consumed], self._data[decoded.consumed :]
        self._begin_at(self._place.on(done, (decoded.left_out,)), rest + more)
        return True
