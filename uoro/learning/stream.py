"""Streams of items: what a stream may be able to do, and how it is read."""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol, Self, runtime_checkable

from uoro.backend import Backend
from uoro.errors import StreamError


@runtime_checkable
class BlockStream(Protocol):
    """An iterator that also returns many items at once, which is faster.

    Law: `take` returns the items that as many calls of ``next`` would return.
    """

    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def take(self, count: int) -> Any:
        """Return the next items as a stack of at least one and at most ``count``.

        Returns:
            Fewer than ``count`` items if there are no more yet; ``None`` at the end of the stream.
        """
        ...


class Taking(ABC):
    """Base of a `BlockStream` that says how to take many items: one is the first of a stack."""

    @abstractmethod
    def take(self, count: int) -> Any:
        """Return the next items as a stack; see `BlockStream`."""

    def _one_of(self, items: Any) -> Any:
        """Return the first item of a stack; by default of columns by name."""
        return {name: column[0] for name, column in items.items()}

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        items = self.take(1)
        if items is None:
            raise StopIteration
        return self._one_of(items)


@runtime_checkable
class SeekableStream(BlockStream, Protocol):
    """A stream that knows its position and can continue from it.

    Law: a stream constructed alike and sent to a position returns the items that the stream at that
    position returns next, however many are asked for at a time.
    """

    @property
    def position(self) -> Any:
        """Position of the next item, as JSON can write it."""
        ...

    def seek(self, position: Any) -> None:
        """Set the position.

        Args:
            position: Position of the next item. It may come from a file that anybody could have
                written: a stream checks it, and stays where it is if it refuses it.

        Raises:
            StreamError: If the position is none of such a stream, or its data changed since.
        """
        ...


@runtime_checkable
class TakesWindows(BlockStream, Protocol):
    """A stream that returns whole windows only, and keeps the items of an incomplete one.

    Law: `take_windows` returns what `take` would, cut off after the last whole window.
    """

    def take_windows(self, count: int, length: int) -> Any:
        """Return the items of at most ``count`` windows of ``length`` items each, as one stack."""
        ...


@runtime_checkable
class Growing(Protocol):
    """A stream that waits for items that are still to come.

    Attributes:
        waiting: Function called with the seconds since the stream began to wait, about every 0.2 s;
            the stream stops waiting if it returns false.
    """

    waiting: Callable[[float], bool]


def read(backend: Backend, stream: Iterator[Any], count: int) -> tuple[Any, int]:
    """Read up to ``count`` items of a stream as one stack on the backend's device.

    Returns:
        The stack and the number of its items; ``None`` and 0 at the end of the stream. Fewer than
        ``count`` is not the end.
    """
    if isinstance(stream, BlockStream):
        return on_device(backend, stream.take(count))
    each = list(islice(stream, count))
    return (backend.collect(each) if each else None), len(each)


def on_device(backend: Backend, block: Any) -> tuple[Any, int]:
    """Return a stack on the backend's device, and the number of its items."""
    items = None if block is None else backend.from_host(block)
    leaves = [] if items is None else backend.named_leaves(items)
    return items, int(leaves[0][1].shape[0]) if leaves else 0


def require_number(stream: str, position: Any, what: str) -> int:
    """Return a position that is one number.

    Args:
        stream: Name of the stream.
        position: Anything.
        what: What the number is.

    Raises:
        StreamError: If the position is no integer >= 0.
    """
    if type(position) is not int or position < 0:
        raise not_a_position(stream, position, f"{what}, an integer >= 0")
    return position


def require_numbers(stream: str, position: Any, *names: str) -> list[int]:
    """Return the numbers of a position that is a dict of them.

    Args:
        stream: Name of the stream.
        position: Anything.
        names: Keys of the dict.

    Raises:
        StreamError: If the position is no such dict of integers >= 0.
    """
    if type(position) is not dict or set(position) != set(names):
        listed = ", ".join(f"'{name}'" for name in names)
        raise not_a_position(stream, position, f"a dict of {listed}")
    for name in names:
        if type(position[name]) is not int or position[name] < 0:
            raise not_a_position(stream, position, f"an integer >= 0 as '{name}'")
    return [position[name] for name in names]


def not_a_position(stream: str, position: Any, expected: str) -> StreamError:
    """Return the error for something that is no position of a stream.

    Args:
        stream: Name of the stream.
        position: What was got.
        expected: What was expected, a noun phrase.
    """
    got = reprlib.repr(position)
    return StreamError(
        f"{stream}.seek({got}): expected a position of this stream ({expected}), got {got}. Take "
        "one from the 'position' of a stream constructed alike."
    )
