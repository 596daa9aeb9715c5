"""Endless random numbers in numbered blocks, each from its own generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from uoro.learning.host_noise import numbered_generator
from uoro.learning.stream import Taking, not_a_position, require_numbers

Columns: TypeAlias = Mapping[str, "np.ndarray[Any, np.dtype[Any]]"]
"""A stack of items: columns of equal length, by name."""


class NumberStream(Taking):
    """A stream of dicts of numbers, drawn block by block.

    Args:
        seed: Seed; equal seeds give equal blocks.
        block: A function from a generator to a block; all blocks have one length.
    """

    def __init__(self, seed: int, block: Callable[[np.random.Generator], Columns]) -> None:
        self._seed, self._draw = seed, block
        self._number, self._offset = 0, 0
        self._drawn: tuple[int, Columns] | None = None

    @property
    def position(self) -> dict[str, int]:
        """Number of the present block, and number of its items read."""
        return {"block": self._number, "offset": self._offset}

    def seek(self, position: Any) -> None:
        """Continue at a position within a block.

        Raises:
            StreamError: If the position is invalid, or beyond the end of the block.
        """
        number, offset = require_numbers("NumberStream", position, "block", "offset")
        if offset and offset >= (length := self._length(self._block(number))):
            wanted = f"an 'offset' below {length}, which is the length of a block"
            raise not_a_position("NumberStream", position, wanted)
        self._number, self._offset = number, offset

    def take(self, count: int) -> Any:
        """Return a stack of ``count`` items."""
        parts: list[Columns] = []
        missing = count
        while missing or not parts:
            block = self._block(self._number)
            part = {
                name: column[self._offset : self._offset + missing]
                for name, column in block.items()
            }
            parts.append(part)
            taken = self._length(part)
            missing, self._offset = missing - taken, self._offset + taken
            if self._offset == self._length(block):
                self._number, self._offset = self._number + 1, 0
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _block(self, number: int) -> Columns:
        if self._drawn is None or self._drawn[0] != number:
            self._drawn = number, self._draw(numbered_generator(self._seed, number))
        return self._drawn[1]

    @staticmethod
    def _length(columns: Columns) -> int:
        return len(next(iter(columns.values())))
