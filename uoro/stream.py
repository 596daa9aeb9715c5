"""Streams of items, cut into windows for dynamics that take several items at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from uoro.backend import Backend
from uoro.errors import SettingError


@runtime_checkable
class BlockStream(Protocol):
    """An iterator that can also hand out many items at once, which is faster."""

    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def take(self, count: int) -> Any:
        """Give the next items as a stack of at most ``count``; ``None`` at the end."""
        ...


def take(backend: Backend, stream: Iterator[Any], count: int) -> tuple[Any, int]:
    """Read up to ``count`` items of a stream as one stack on the backend's device.

    Returns:
        The stack, or ``None`` at the end of the stream, and how many items are in it.
    """
    if isinstance(stream, BlockStream):
        block = stream.take(count)
        items = None if block is None else backend.from_host(block)
    else:
        each = list(islice(stream, count))
        items = backend.collect(each) if each else None
    leaves = [] if items is None else backend.named_leaves(items)
    return items, int(leaves[0][1].shape[0]) if leaves else 0


@dataclass(frozen=True)
class Windows:
    """Consecutive stacks of ``length`` items each, as ``unroll(dynamics, length)`` takes them.

    What is left at the end of the stream, shorter than a window, is dropped.

    Args:
        backend: The backend to stack them on.
        stream: An iterator of items; a `BlockStream` is read in blocks.
        length: T.

    Raises:
        SettingError: If the length is not a positive integer.
    """

    backend: Backend
    stream: Iterator[Any]
    length: int

    def __post_init__(self) -> None:
        if not isinstance(self.length, int) or self.length < 1:
            raise SettingError(f"Windows(length={self.length!r}): it must be an integer >= 1.")

    def __iter__(self) -> Windows:
        return self

    def __next__(self) -> Any:
        items, got = take(self.backend, self.stream, self.length)
        if got < self.length:
            raise StopIteration
        return items

    def take(self, count: int) -> Any:
        """Give the next windows as a stack of at most ``count``; ``None`` at the end."""
        items, got = take(self.backend, self.stream, self.length * count)
        whole = got // self.length
        if whole == 0:
            return None

        def cut(leaf: Any) -> Any:
            shape = (whole, self.length, *leaf.shape[1:])
            return leaf[: whole * self.length].reshape(shape)

        return self.backend.map(cut, items)
