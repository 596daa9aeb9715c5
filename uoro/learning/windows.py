"""Windows of a stream: stacks of T items, for estimates of T items at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from uoro.algebra import entry
from uoro.arguments import mismatch, require_count, require_methods, require_stream
from uoro.backend import Backend
from uoro.errors import StreamError, UnseekableError, spelled
from uoro.estimator import ParallelEstimator
from uoro.learning.stream import SeekableStream, TakesWindows, Taking, on_device, read
from uoro.learning.update import Update, span_of


@runtime_checkable
class GivesWindows(Protocol):
    """An iterator whose items are windows already.

    Attributes:
        window_length: Number of items of the stream in a window.
    """

    @property
    def window_length(self) -> int: ...  # noqa: D102


def windowed(update: Update, stream: Iterable[Any], call: str) -> Iterator[Any]:
    """Return an iterator over what one step takes: single items, or windows of them.

    Args:
        update: Step that takes the items.
        stream: Single items, or a stream that gives the windows itself.
        call: The call, as the user wrote it.

    Raises:
        StreamError: If the stream is not iterable, or gives windows of another length.
    """
    items = require_stream(call, stream)
    if isinstance(items, GivesWindows):
        if items.window_length != update.span:
            expected = f"windows of {update.span} items, or single items"
            got = f"windows of {items.window_length}"
            raise StreamError(mismatch(call, "stream", expected, got))
        return items
    axis = 1 if isinstance(update.estimator, ParallelEstimator) else 0
    for length in (update.dynamics.span, span_of(update.estimator)):
        if length > 1:
            items = Windows(update.backend, items, length, axis=axis)
    return items


class Windows(Taking):
    """Iterate over windows of a stream: consecutive stacks of ``length`` items.

    A rest shorter than a window is dropped at the end of the stream. The position is that of the
    stream.

    Args:
        backend: Backend of the stacks.
        stream: Single items; a `uoro.learning.stream.BlockStream` is read in blocks.
        length: Number T of items in a window, an integer >= 1.
        axis: Axis of a window that counts its items: 0, or 1 where each item is a stack of rows.

    Raises:
        SettingError: If the length is no positive integer.
        StreamError: If the stream is not iterable.
    """

    def __init__(
        self, backend: Backend, stream: Iterable[Any], length: int, *, axis: int = 0
    ) -> None:
        call = f"Windows(length={spelled(length)})"
        hint = "Load one: load_backend(name)."
        require_methods(call, "backend", backend, ("map", "collect"), "a uoro.Backend", hint)
        self._backend = backend
        self._stream = require_stream(call, stream)
        self._length = require_count(call, "length", length)
        self._axis = axis
        self._left: Any = None
        self._left_over = 0

    def _one_of(self, items: Any) -> Any:
        """Return the first item of a stack."""
        return entry(self._backend, items, 0)

    @property
    def window_length(self) -> int:
        """Number of items of the stream in a window."""
        inner = self._stream
        return self._length * (inner.window_length if isinstance(inner, GivesWindows) else 1)

    @property
    def position(self) -> Any:
        """Position of the stream.

        Raises:
            UnseekableError: If the stream has none, or has returned a part of a window.
        """
        if self._left_over:
            raise UnseekableError(
                f"Windows.position: expected whole windows of {self._length} items, got "
                f"{self._left_over} items of a window of {self._length} from {self._name}, which "
                "cannot take them back. Give the stream a method 'take_windows'."
            )
        return self._seekable("position").position

    def seek(self, position: Any) -> None:
        """Set the position in the stream.

        Raises:
            UnseekableError: If the stream has no position.
            StreamError: If the stream refuses the position.
        """
        self._seekable("seek(position)").seek(position)
        self._left, self._left_over = None, 0

    def take(self, count: int) -> Any:
        """Return the next windows as a stack of at most ``count``; ``None`` at the end."""
        count = require_count(f"Windows.take({spelled(count)})", "count", count, least=0)
        length = self._length
        if isinstance(self._stream, TakesWindows):
            items, got = on_device(self._backend, self._stream.take_windows(count, length))
        else:
            items, got = self._gather(count)
        whole = got // length
        if whole == 0:
            return None

        def cut(leaf: Any) -> Any:
            windows = leaf[: whole * length].reshape((whole, length, *leaf.shape[1:]))
            return windows.swapaxes(1, 1 + self._axis) if self._axis else windows

        return self._backend.map(cut, items)

    def _gather(self, count: int) -> tuple[Any, int]:
        """Read until the last window is whole, or the stream ends; keep an incomplete window."""
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
                f"Windows.{attribute}: expected a stream with 'position' and 'seek', such as a "
                f"task's, got {self._name}."
            )
        return stream

    @property
    def _name(self) -> str:
        return f"a {type(self._stream).__name__}"
