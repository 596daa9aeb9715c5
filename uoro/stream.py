"""Streams of items, cut into windows for dynamics that take several items at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from uoro.backend import Backend
from uoro.errors import require_count


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
        return (backend.collect(each) if each else None), len(each)
    leaves = [] if items is None else backend.named_leaves(items)
    return items, int(leaves[0][1].shape[0]) if leaves else 0


class Windows:
    """Consecutive stacks of ``length`` items each, as ``unroll(dynamics, length)`` takes them.

    What is left at the end of the stream, shorter than a window, is dropped.

    Args:
        backend: The backend to stack them on.
        stream: Items; a `BlockStream` is read in blocks.
        length: T.

    Raises:
        SettingError: If the length is not a positive integer.
    """

    def __init__(self, backend: Backend, stream: Iterable[Any], length: int) -> None:
        self._backend = backend
        self._stream = iter(stream)
        self._length = require_count(f"Windows(length={length!r})", "length", length)

    def __iter__(self) -> Windows:
        return self

    def __next__(self) -> Any:
        items, got = take(self._backend, self._stream, self._length)
        if got < self._length:
            raise StopIteration
        return items

    def take(self, count: int) -> Any:
        """Give the next windows as a stack of at most ``count``; ``None`` at the end."""
        length = self._length
        items, got = take(self._backend, self._stream, length * count)
        whole = got // length
        if whole == 0:
            return None

        def cut(leaf: Any) -> Any:
            return leaf[: whole * length].reshape((whole, length, *leaf.shape[1:]))

        return self._backend.map(cut, items)
