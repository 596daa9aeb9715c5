"""A stream that counts its items, checks them, and resumes at a position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from uoro.algebra import entry
from uoro.arguments import require_like
from uoro.backend import Backend
from uoro.errors import StreamError, StructureError, UnseekableError
from uoro.learning.log import LOGGER
from uoro.learning.stream import BlockStream, Growing, Taking, read
from uoro.learning.windows import Windows

# Number of items that are drawn at a time to be dropped.
_BLOCK = 256


class Tap:
    """A stream that counts its items and keeps the newest.

    Args:
        backend: Backend of the items.
        stream: Any stream. Items that come one by one are checked to be like the first.
        span: Number of items in a window; above 1, the items of the tap are windows.
        dtype: Dtype of numbers that are not integers. Default: their own.

    Attributes:
        items: Number of items returned.
        newest: Newest item; ``None`` before the first.
    """

    def __init__(
        self,
        backend: Backend,
        stream: Iterable[Any],
        span: int = 1,
        *,
        dtype: str | None = None,
    ) -> None:
        self._backend = backend
        self._dtype = dtype
        self._checked = None if isinstance(stream, BlockStream) else Checked(backend, stream)
        source: Any = self._checked or stream
        self._stream: Any = Windows(backend, source, span) if span > 1 else iter(source)
        self._span = span
        self._seekable = is_seekable(source)
        self._grows = isinstance(stream, Growing)
        self._behind = 0
        self.items = 0
        self.newest: Any = None
        self._mark: tuple[int, Any] = (0, None)
        self.mark()

    def __iter__(self) -> Tap:
        return self

    @property
    def window_length(self) -> int:
        """Number of items of the stream in a window."""
        return self._span

    def __next__(self) -> Any:
        if not self._catch_up():
            raise StopIteration
        item = next(self._stream)
        if self._dtype is not None:
            item = self._backend.from_host(item, dtype=self._dtype)
        self.items += 1
        self.newest = item
        return item

    def take(self, count: int) -> Any:
        """Return the next items as a stack of at most ``count``; ``None`` at the end."""
        if not self._catch_up():
            return None
        block, got = read(self._backend, self._stream, count)
        if got:
            if self._dtype is not None:
                block = self._backend.from_host(block, dtype=self._dtype)
            self.items += got
            self.newest = entry(self._backend, block, -1)
        return block

    def mark(self) -> None:
        """Note the position of the stream; `position` counts from here.

        Raises:
            StreamError: If JSON cannot hold the stream's position.
        """
        own = None
        if self._behind:
            return
        if self._seekable:
            try:
                own = self._stream.position
                json.dumps(own)
            except UnseekableError:
                return  # Within a window; the mark before it serves as well.
            except (TypeError, ValueError, RecursionError) as error:
                raise StreamError(
                    "train: stream.position: expected numbers, text, or lists and dictionaries of "
                    f"those, got what JSON cannot hold: {error}."
                ) from error
        self._mark = self.items, own

    def position(self, items: int) -> dict[str, Any]:
        """Return the position after ``items`` items, at the mark or later, as JSON holds it."""
        if items == self.items:
            self.mark()
        return {"items": items, "marked": self._mark[0], "own": self._mark[1]}

    def first(self) -> Any:
        """Return the first item of an unread stream; `seek` is called next.

        Raises:
            StreamError: If the stream has no items.
        """
        for item in self:
            return item
        raise StreamError(
            "train: expected the stream that the run had before, got one without items."
        )

    def seek(self, position: Any) -> None:
        """Continue from the position of a stream constructed alike.

        A stream without positions is read up to there, and its items are dropped.

        Raises:
            StreamError: If the stream cannot continue from the position.
        """
        items, marked = _counts(position)
        if self._seekable:
            self._stream.seek(position.get("own"))
            self._mark = marked, position.get("own")
        else:
            marked = self.items
            if items > marked:
                LOGGER.info("the stream has no position: %d items are dropped", items)
        if self._checked is not None:
            self._checked.number = marked * self._span
        self._behind = items - marked
        if not self._grows:
            self._catch_up()
        self.items = items

    def _catch_up(self) -> bool:
        """Drop the items used before; return whether none is left to drop."""
        dropped = 0
        while self._behind:
            _, got = read(self._backend, self._stream, min(self._behind, _BLOCK))
            if not got:
                if self._grows:
                    return False
                raise StreamError(
                    f"train: expected {dropped + self._behind} items, as used before, got a stream "
                    f"that ended after {dropped} items. Give a stream that begins as before, or "
                    "one with position and seek."
                )
            dropped += got
            self._behind -= got
        return True


class Checked(Taking):
    """Items of a stream that returns them one by one; an item unlike the first is refused.

    Items before a refused one, or before an exception of the stream, are returned first; the
    position then remains that of the refused item.

    Args:
        backend: Backend of the items.
        stream: Any iterable. With ``position`` and ``seek``, it can be resumed.

    Attributes:
        number: Number of items drawn, for errors.
    """

    def __init__(self, backend: Backend, stream: Iterable[Any]) -> None:
        self._backend = backend
        self._source = stream
        self._items: Iterator[Any] = iter(stream)
        self._owner: Any = stream if is_seekable(stream) else self._items
        self._seekable = is_seekable(self._owner)
        self._first: Any = None
        self._failed: tuple[Exception, Any] | None = None
        self.number = 0

    def _one_of(self, items: Any) -> Any:
        """Return the first item of a stack."""
        return entry(self._backend, items, 0)

    @property
    def position(self) -> Any:
        """Position of the next item; missing if the stream has none."""
        if not self._seekable:
            raise AttributeError("position")
        return self._owner.position if self._failed is None else self._failed[1]

    def seek(self, position: Any) -> None:
        """Set the position in the stream."""
        self._owner.seek(position)
        self._items = iter(self._source)
        self._failed = None

    def take(self, count: int) -> Any:
        """Return the next items as a stack of at most ``count``; ``None`` at the end.

        Raises:
            StreamError: If the next item is not like the first.
        """
        drawn = self._draw(count) if self._failed is None else []
        if drawn and (block := self._stack(drawn)) is not None:
            self.number += len(drawn)
            return block
        if self._failed is not None:
            raise self._failed[0]
        return None

    def _draw(self, count: int) -> list[tuple[Any, Any]]:
        """Draw items, each with its position, up to an exception."""
        drawn: list[tuple[Any, Any]] = []
        while len(drawn) < count:
            place = self._owner.position if self._seekable else None
            try:
                drawn.append((next(self._items), place))
            except StopIteration:
                break
            except Exception as error:
                self._failed = error, place
                break
        return drawn

    def _stack(self, drawn: list[tuple[Any, Any]]) -> Any:
        """Stack items; the first refused one is removed, with those after it."""
        call = f"train: item {self.number} of the stream"
        try:
            if self._first is None:
                self._first = self._numbers(drawn[0][0])
            block = self._backend.collect([item for item, _ in drawn])
            self._require(block, call, batch=(len(drawn),))
        except Exception:
            # Checking the items one by one finds which one it is.
            block = None
        if block is not None:
            return block
        for i, (item, place) in enumerate(drawn):
            try:
                self._require(self._backend.collect([item]), call, batch=(1,))
            except Exception as error:
                self._failed = _refusal(self.number + i, error), place
                del drawn[i:]
                break
        return self._backend.collect([item for item, _ in drawn]) if drawn else None

    def _numbers(self, item: Any) -> Any:
        """Return an item of numbers on the device."""
        made = self._backend.from_host(item)
        for name, leaf in self._backend.named_leaves(self._backend.to_host(made)):
            if leaf.dtype.kind not in "biufcV":
                raise StructureError(f"{name or 'item'}: expected numbers, got dtype {leaf.dtype}.")
        return made

    def _require(self, block: Any, call: str, *, batch: tuple[int, ...]) -> None:
        hint = "Give items like the first one."
        require_like(self._backend, block, self._first, call=call, batch=batch, hint=hint)


def _refusal(number: int, error: Exception) -> StreamError:
    refusal = StreamError(f"train: item {number} of the stream is malformed. {error}")
    refusal.__cause__ = error
    return refusal


def _counts(position: Any) -> tuple[int, int]:
    """Return the number of items of a position, and that of its mark."""
    counts = []
    if type(position) is dict:
        counts = [position.get(name) for name in ("items", "marked")]
    items, marked = counts or (None, None)
    if type(items) is int and type(marked) is int and 0 <= marked <= items:
        return items, marked
    raise StreamError(f"train: expected the position of a stream, got {position!r:.200}.")


def is_seekable(stream: object) -> bool:
    """Return whether a stream has a position and can seek it."""
    # Not isinstance, which from Python 3.12 on sees a position that cannot be asked for.
    try:
        return hasattr(stream, "position") and hasattr(stream, "seek")
    except UnseekableError:
        return False
