"""Pairs of symbol and target, cut from one sequence of symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from uoro.errors import StreamError, UnseekableError
from uoro.learning.host_noise import numbered_generator
from uoro.learning.stream import not_a_position, require_numbers

Symbols: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@runtime_checkable
class SymbolReader(Protocol):
    """A sequence of symbols that is read on and on, and can say where it stands."""

    @property
    def size(self) -> int:
        """How many symbols the alphabet has."""
        ...

    @property
    def skipped(self) -> int:
        """How much was left out up to the position, as it was malformed."""
        ...

    @property
    def position(self) -> Any:
        """Where the next symbol is, as JSON can say it."""
        ...

    def seek(self, position: Any) -> None:
        """Go there, or raise a StreamError and stay."""
        ...

    def read(self, count: int) -> Symbols | None:
        """Give at most ``count`` symbols; none if there are none yet; ``None`` at the end."""
        ...


class PairStream:
    """A stream of ``{"symbol", "target"}`` cut from one sequence of symbols.

    What is asked for at a time makes no difference to what comes. No more symbols are held than
    have no target yet, or are one yet to come.

    Args:
        symbols: The sequence: a `SymbolReader`; or an iterator of blocks of any size, and then the
            stream has no position.
        lead: How many symbols the target is ahead; 1 to predict the next one, and negative to
            recall an earlier one.
    """

    def __init__(self, symbols: SymbolReader | Iterator[Symbols], lead: int = 1) -> None:
        self._symbols = symbols if isinstance(symbols, SymbolReader) else Blocks(symbols)
        self._lead = lead
        self._held: Symbols = np.zeros(0, np.int32)

    def __iter__(self) -> PairStream:
        return self

    def __next__(self) -> dict[str, Any]:
        items = self.take(1)
        if items is None:
            raise StopIteration
        return {name: column[0] for name, column in items.items()}

    @property
    def skipped(self) -> int:
        """How much was left out of the sequence so far, as it was malformed."""
        return self._symbols.skipped

    @property
    def position(self) -> dict[str, Any]:
        """Where the sequence stands, and the symbols that were read and are yet to come.

        Raises:
            UnseekableError: If the symbols come from a plain iterator.
        """
        return {"held": self._held.tolist(), "source": self._symbols.position}

    def seek(self, position: Any) -> None:
        """Go to a position of a stream made alike.

        Raises:
            StreamError: If it is none, or the sequence cannot be read from there.
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
        """Give the next pairs, at most ``count``; ``None`` at the end."""
        return self.take_windows(count, 1)

    def take_windows(self, count: int, length: int) -> Any:
        """Give the pairs of at most ``count`` windows, whole ones; ``None`` at the end.

        Fewer than asked for come before the end, before what cannot be read, and where the
        sequence has no more symbols yet: then there may be no pair at all.

        Args:
            count: How many windows.
            length: How many pairs make one.

        Raises:
            StreamError: If the sequence cannot be read on, and all windows before were given.
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

    def _fill(self, wanted: int, least: int) -> bool:
        """Read until so many symbols are held; say whether the sequence ended before."""
        parts, got = [self._held], len(self._held)
        try:
            while got < wanted:
                block = self._symbols.read(wanted - got)
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
    """Symbols out of an iterator of blocks, which has no position.

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
        """There is none."""
        raise self._unseekable("position")

    def seek(self, position: Any) -> None:
        """Refuse to."""
        raise self._unseekable("seek(position)")

    def read(self, count: int) -> Symbols | None:
        """Give what is left of a block, or of the next one."""
        while not len(self._block):
            block = next(self._blocks, None)
            if block is None:
                return None
            self._block = block
        part, self._block = self._block[:count], self._block[count:]
        return part

    def _unseekable(self, attribute: str) -> UnseekableError:
        return UnseekableError(
            f"PairStream.{attribute}: the symbols come from a plain iterator, which cannot say "
            "where it stands. Give PairStream a SymbolReader."
        )


class Synthetic:
    """Symbols drawn in numbered blocks without an end, each from a generator of its own.

    Args:
        seed: Equal seeds give equal blocks.
        block: Draws one; blocks may differ in length.
        size: How many symbols the alphabet has.
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
        """The number of a block, and how many of its symbols were read."""
        return {"block": self._number, "offset": self._offset}

    def seek(self, position: Any) -> None:
        """Draw the block of that number and go on inside it.

        Raises:
            StreamError: If that is no position, or lies past the end of the block.
        """
        number, offset = require_numbers("Synthetic", position, "block", "offset")
        if offset and offset >= (length := len(self._block(number))):
            wanted = f"an 'offset' below {length}, which is the length of that block"
            raise not_a_position("Synthetic", position, wanted)
        self._number, self._offset = number, offset

    def read(self, count: int) -> Symbols:
        """Give what is left of a block."""
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
