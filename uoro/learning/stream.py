"""Streams of items, where they stand, and cutting them into windows for `unroll`."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from uoro.arguments import require_count, require_methods, require_stream
from uoro.backend import Backend
from uoro.errors import StreamError, UnseekableError, spelled


@runtime_checkable
class BlockStream(Protocol):
    """An iterator that can also hand out many items at once, which is faster."""

    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def take(self, count: int) -> Any:
        """Give the next items as a stack of at least one and at most ``count``.

        Fewer than ``count`` is not the end: no more may have been there yet. ``None`` is.
        """
        ...


@runtime_checkable
class SeekableStream(BlockStream, Protocol):
    """A stream that can say where it stands, and go on from there when it is made anew.

    A stream made alike, sent to a position, gives what the one whose position it was gives next.
    How many items were asked for at a time makes no difference to that.
    """

    @property
    def position(self) -> Any:
        """Where the next item is, as JSON can say it."""
        ...

    def seek(self, position: Any) -> None:
        """Go to a position; the next item is the one there.

        Args:
            position: May come from a file that anybody could have written: it is looked at, and a
                stream that refuses one stays where it is.

        Raises:
            StreamError: If it is no position of such a stream, or what was read is not there now.
        """
        ...


@runtime_checkable
class WindowStream(BlockStream, Protocol):
    """A stream that never gives a part of a window, and keeps what is not a whole one yet."""

    def take_windows(self, count: int, length: int) -> Any:
        """Give as many items as make at most ``count`` whole windows, as `take` would give them."""
        ...


def read(backend: Backend, stream: Iterator[Any], count: int) -> tuple[Any, int]:
    """Read up to ``count`` items of a stream as one stack on the backend's device.

    Returns:
        The stack, or ``None`` at the end of the stream, and how many items are in it. Fewer than
        ``count`` is not the end, as more may come later; the end is ``None`` and 0.
    """
    if isinstance(stream, BlockStream):
        return _on_device(backend, stream.take(count))
    each = list(islice(stream, count))
    return (backend.collect(each) if each else None), len(each)


def _on_device(backend: Backend, block: Any) -> tuple[Any, int]:
    items = None if block is None else backend.from_host(block)
    leaves = [] if items is None else backend.named_leaves(items)
    return items, int(leaves[0][1].shape[0]) if leaves else 0


class Windows:
    """Consecutive stacks of ``length`` items each, as ``unroll(dynamics, length)`` takes them.

    What is left at the end of the stream, shorter than a window, is dropped. Its position is that
    of the stream.

    Args:
        backend: The backend to stack them on.
        stream: Items; a `BlockStream` is read in blocks.
        length: T.

    Raises:
        SettingError: If the length is not a positive integer.
    """

    def __init__(self, backend: Backend, stream: Iterable[Any], length: int) -> None:
        call = f"Windows(length={spelled(length)})"
        require_methods(
            call, "backend", backend, ("map", "collect"), "a backend, as load_backend(name) returns"
        )
        self._backend = backend
        self._stream = require_stream(call, stream)
        self._length = require_count(call, "length", length)
        self._left: Any = None
        self._left_over = 0

    def __iter__(self) -> Windows:
        return self

    def __next__(self) -> Any:
        windows = self.take(1)
        if windows is None:
            raise StopIteration
        return self._backend.map(lambda leaf: leaf[0], windows)

    @property
    def position(self) -> Any:
        """The position of the stream.

        Raises:
            UnseekableError: If the stream has none, or has given a part of a window.
        """
        if self._left_over:
            raise UnseekableError(
                f"Windows.position: {self._left_over} items of a window of {self._length} were "
                f"taken, and {self._name} cannot take them back. Give it a method 'take_windows'."
            )
        return self._seekable("position").position

    def seek(self, position: Any) -> None:
        """Go to a position of the stream.

        Raises:
            UnseekableError: If the stream has none.
            StreamError: As the stream's `seek` does.
        """
        self._seekable("seek(position)").seek(position)
        self._left, self._left_over = None, 0

    def take(self, count: int) -> Any:
        """Give the next windows as a stack of at most ``count``; ``None`` at the end."""
        count = require_count(f"Windows.take({spelled(count)})", "count", count, least=0)
        length = self._length
        if isinstance(self._stream, WindowStream):
            items, got = _on_device(self._backend, self._stream.take_windows(count, length))
        else:
            items, got = self._gather(count)
        whole = got // length
        if whole == 0:
            return None

        def cut(leaf: Any) -> Any:
            return leaf[: whole * length].reshape((whole, length, *leaf.shape[1:]))

        return self._backend.map(cut, items)

    def _gather(self, count: int) -> tuple[Any, int]:
        """Read on until the last window is whole, or the stream ends; keep the part of one."""
        backend, length = self._backend, self._length

        def join(some: Any, more: Any) -> Any:
            return backend.xp.concatenate([some, more])

        items, got = self._left, self._left_over
        while got == 0 or got % length:
            wanted = count * length if got < length else got + length - got % length
            more, came = read(backend, self._stream, max(0, wanted - got))
            if not came:
                break
            items = more if got == 0 else backend.map(join, items, more)
            got += came
        whole = got - got % length
        self._left_over = got - whole
        self._left = backend.map(lambda leaf: leaf[whole:], items) if got > whole else None
        return items, got

    def _seekable(self, attribute: str) -> SeekableStream:
        stream = self._stream
        if not (hasattr(stream, "position") and isinstance(stream, SeekableStream)):
            raise UnseekableError(
                f"Windows.{attribute}: the items come from {self._name}, which cannot say where it "
                "stands. Give a stream with 'position' and 'seek', such as a task's."
            )
        return stream

    @property
    def _name(self) -> str:
        return f"a {type(self._stream).__name__}"


def require_number(stream: str, position: Any, what: str) -> int:
    """Return a position that is one number, from 0 on.

    Args:
        stream: What the stream is called.
        position: Anything.
        what: What the number is.

    Raises:
        StreamError: If it is anything else.
    """
    if type(position) is not int or position < 0:
        raise not_a_position(stream, position, f"{what}, an integer >= 0")
    return position


def require_numbers(stream: str, position: Any, *names: str) -> list[int]:
    """Return the numbers, from 0 on, of a position that is a dict of them and nothing else.

    Args:
        stream: What the stream is called.
        position: Anything.
        names: The keys.

    Raises:
        StreamError: If it is anything else.
    """
    if type(position) is not dict or set(position) != set(names):
        listed = ", ".join(f"'{name}'" for name in names)
        raise not_a_position(stream, position, f"a dict of {listed}")
    for name in names:
        if type(position[name]) is not int or position[name] < 0:
            raise not_a_position(stream, position, f"an integer >= 0 as '{name}'")
    return [position[name] for name in names]


def not_a_position(stream: str, position: Any, wanted: str) -> StreamError:
    """Make the error for something that is not a position of a stream.

    Args:
        stream: What the stream is called.
        position: What was got.
        wanted: What was wanted.
    """
    return StreamError(
        f"{stream}.seek({reprlib.repr(position)}): that is not a position of this stream. Wanted "
        f"is {wanted}, as the 'position' of a stream made alike says it."
    )
