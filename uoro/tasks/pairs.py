"""Streams of symbol and target, cut from a sequence of symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from uoro.errors import StreamError, UnseekableError
from uoro.learning.host_noise import numbered_generator
from uoro.learning.stream import Taking, not_a_position, require_numbers

Symbols: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@runtime_checkable
class SymbolReader(Protocol):
    """A sequence of symbols that knows its position and can be read on from one."""

    @property
    def size(self) -> int:
        """Number of symbols of the alphabet."""
        ...

    @property
    def skipped(self) -> int:
        """Number of malformed symbols left out up to the position."""
        ...

    @property
    def position(self) -> Any:
        """Position of the next symbol, a JSON value."""
        ...

    def seek(self, position: Any) -> None:
        """Continue at a position, or raise a StreamError and stay."""
        ...

    def read(self, count: int) -> Symbols | None:
        """Return at most ``count`` symbols, none while none has come; ``None`` at the end."""
        ...


class PairStream(Taking):
    """A stream of ``{"symbol", "target"}`` cut from a sequence of symbols.

    The items do not depend on the counts in which they are taken. The stream holds only the
    symbols that are still without a target, or still to be a target.

    Args:
        symbols: A `SymbolReader`, or an iterator of blocks of any size; with an iterator the stream
            has no position.
        lead: Distance of the target ahead of the symbol; default 1, the next symbol. A negative
            lead asks for an earlier symbol.
    """

    def __init__(self, symbols: SymbolReader | Iterator[Symbols], lead: int = 1) -> None:
        self._symbols = symbols if isinstance(symbols, SymbolReader) else Blocks(symbols)
        self._lead = lead
        self._held: Symbols = np.zeros(0, np.int32)

    @property
    def skipped(self) -> int:
        """Number of malformed symbols left out so far."""
        return self._symbols.skipped

    @property
    def position(self) -> dict[str, Any]:
        """Position of the sequence, and the symbols read but not yet returned.

        Raises:
            UnseekableError: If the symbols come from a plain iterator.
        """
        return {"held": self._held.tolist(), "source": self._symbols.position}

    def seek(self, position: Any) -> None:
        """Continue at a position of an equal stream.

        Raises:
            StreamError: If the position is invalid, or the sequence cannot be read from there.
        """
        if isinstance(self._symbols, Blocks):
            self._symbols.seek(position)
        if type(position) is not dict or set(position) != {"held", "source"}:
            raise not_a_position("PairStream", position, "a dict of 'held' and 'source'")
        held, size = position["held"], self._symbols.size
        if type(held) is not list or any(type(n) is not int or not 0 <= n < size for n in held):
            wanted = f"a list of symbols, integers from 0 to {size - 1}, as 'held'"
            raise not_a_position("PairStream", position, wanted)
        self._symbols.seek(position["source"])
        self._held = np.array(held, np.int32)

    def take(self, count: int) -> Any:
        """Return at most ``count`` items; ``None`` at the end."""
        return self.take_windows(count, 1)

    def take_windows(self, count: int, length: int) -> Any:
        """Return the items of at most ``count`` whole windows; ``None`` at the end.

        Fewer windows, or none, are returned before the end, before an error, and while the
        sequence has no more symbols.

        Args:
            count: Number of windows.
            length: Number of items of a window.

        Raises:
            StreamError: If the sequence cannot be read, after all earlier windows were returned.
        """
        ahead = abs(self._lead)
        ended = self._fill(count * length + ahead if count else 0, length + ahead)
        whole = max(0, len(self._held) - ahead) // length
        if ended and not whole:
            return None
        got = min(whole, count) * length
        held, self._held = self._held, self._held[got:]
        symbol, target = max(0, -self._lead), max(0, self._lead)
        return {"symbol": held[symbol : symbol + got], "target": held[target : target + got]}

    def _fill(self, enough: int, least: int) -> bool:
        """Read until enough symbols are held; return whether the sequence ended before."""
        parts, got = [self._held], len(self._held)
        try:
            while got < enough:
                block = self._symbols.read(enough - got)
                if block is None:
                    return True
                if not len(block):
                    break
                parts.append(block)
                got += len(block)
        except StreamError:
            if got < least:
                raise
        finally:
            self._held = np.concatenate(parts)
        return False


class Blocks:
    """The symbols of an iterator of blocks, which has no position.

    Args:
        blocks: The blocks, of any size.
    """

    size = 0
    skipped = 0

    def __init__(self, blocks: Iterator[Symbols]) -> None:
        self._blocks = blocks
        self._block: Symbols = np.zeros(0, np.int32)

    @property
    def position(self) -> Any:
        """Raise an UnseekableError."""
        raise self._unseekable("position")

    def seek(self, position: Any) -> None:
        """Raise an UnseekableError."""
        raise self._unseekable("seek(position)")

    def read(self, count: int) -> Symbols | None:
        """Return at most ``count`` symbols of the present block, or of the next."""
        while not len(self._block):
            block = next(self._blocks, None)
            if block is None:
                return None
            self._block = block
        part, self._block = self._block[:count], self._block[count:]
        return part

    def _unseekable(self, attribute: str) -> UnseekableError:
        return UnseekableError(
            f"PairStream.{attribute}: expected a source with a position, got a plain iterator, "
            "which cannot say where it stands. Pass a SymbolReader to PairStream."
        )


class Synthetic:
    """Endless random symbols in numbered blocks, each from its own generator.

    Args:
        seed: Seed; equal seeds give equal blocks.
        block: A function from a generator to a block; blocks may differ in length.
        size: Number of symbols of the alphabet.
    """

    skipped = 0

    def __init__(
        self, seed: int, block: Callable[[np.random.Generator], Symbols], size: int
    ) -> None:
        self.size = size
        self._seed = seed
        self._draw = block
        self._number, self._offset = 0, 0
        self._drawn: tuple[int, Symbols] | None = None

    @property
    def position(self) -> dict[str, int]:
        """Number of the present block, and number of its symbols read."""
        return {"block": self._number, "offset": self._offset}

    def seek(self, position: Any) -> None:
        """Continue at a position within a block.

        Raises:
            StreamError: If the position is invalid, or beyond the end of the block.
        """
        number, offset = require_numbers("Synthetic", position, "block", "offset")
        if offset and offset >= (length := len(self._block(number))):
            wanted = f"an 'offset' below {length}, which is the length of that block"
            raise not_a_position("Synthetic", position, wanted)
        self._number, self._offset = number, offset

    def read(self, count: int) -> Symbols:
        """Return at most ``count`` symbols of the present block."""
        block = self._block(self._number)
        part = block[self._offset : self._offset + count]
        self._offset += len(part)
        if self._offset == len(block):
            self._number, self._offset = self._number + 1, 0
        return part

    def _block(self, number: int) -> Symbols:
        if self._drawn is None or self._drawn[0] != number:
            block = self._draw(numbered_generator(self._seed, number))
            self._drawn = number, block.astype(np.int32)
        return self._drawn[1]
