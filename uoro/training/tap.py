"""A stream with a counter on it: where it stands, and what it gave last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from uoro.algebra import entry
from uoro.arguments import require_like
from uoro.backend import Backend
from uoro.errors import StreamError, StructureError, UnseekableError
from uoro.learning.log import LOGGER
from uoro.learning.stream import BlockStream, Growing, read
from uoro.learning.windows import Windows

# Items that are drawn at a time to be dropped.
_BLOCK = 256


class Tap:
    """Pass a stream on; note how many items it gave, and the newest.

    Args:
        backend: Where the items go.
        stream: Any. Items of one that gives them one by one are checked to be like the first.
        span: How many of them make one; where it is more than 1, "items" are windows from here on.
        dtype: What to make of numbers that are not integers; what they are if not given.

    Attributes:
        items: How many were given.
        newest: The last of them; ``None`` before the first.
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
        """Give the next items as a stack of at most ``count``; ``None`` at the end."""
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
        """Note where it stands: `position` goes on from here.

        Raises:
            StreamError: If the stream says it in a way that JSON cannot.
        """
        own = None
        if self._behind:
            return
        if self._seekable:
            try:
                own = self._stream.position
                json.dumps(own)
            except UnseekableError:
                return  # Within a window; the mark before it does as well.
            except (TypeError, ValueError, RecursionError) as error:
                raise StreamError(
                    f"train: the stream's position cannot be written as JSON: {error}. Wanted are "
                    "numbers, text, and lists and dictionaries of them."
                ) from error
        self._mark = self.items, own

    def position(self, items: int) -> dict[str, Any]:
        """Say, as JSON can, where it stood after so many items, the mark's or more."""
        if items == self.items:
            self.mark()
        return {"items": items, "marked": self._mark[0], "own": self._mark[1]}

    def first(self) -> Any:
        """Draw the first item of a stream from which none was drawn; `seek` comes next.

        Raises:
            StreamError: If there is none.
        """
        for item in self:
            return item
        raise StreamError("train: the stream has no items. Give the one that the run had before.")

    def seek(self, position: Any) -> None:
        """Go to where a stream made alike was.

        One that does not know where it stands is gone through up to there.

        Raises:
            StreamError: If it cannot go there.
        """
        items, marked = _counts(position)
        if self._seekable:
            self._stream.seek(position.get("own"))
            self._mark = marked, position.get("own")
        else:
            marked = self.items
            if items > marked:
                LOGGER.info("the stream does not say where it is: %d items are dropped", items)
        if self._checked is not None:
            self._checked.number = marked * self._span
        self._behind = items - marked
        if not self._grows:
            self._catch_up()
        self.items = items

    def _catch_up(self) -> bool:
        """Drop what was used before; say whether there is nothing left to drop."""
        dropped = 0
        while self._behind:
            _, got = read(self._backend, self._stream, min(self._behind, _BLOCK))
            if not got:
                if self._grows:
                    return False
                raise StreamError(
                    f"train: the stream ended after {dropped} items, and {dropped + self._behind} "
                    "were used before. Give one that begins as it did, or one that has position "
                    "and seek."
                )
            dropped += got
            self._behind -= got
        return True


class Checked:
    """Items that a stream gives one by one, each refused that is not like the first one.

    What comes before an item that is refused, or before an exception of the stream's own, is
    given first; its position is then still that item's.

    Args:
        backend: Where the items go.
        stream: Anything to iterate over. If it has ``position`` and ``seek``, so has this.

    Attributes:
        number: How many items were drawn, for the errors.
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

    def __iter__(self) -> Checked:
        return self

    def __next__(self) -> Any:
        block = self.take(1)
        if block is None:
            raise StopIteration
        return entry(self._backend, block, 0)

    @property
    def position(self) -> Any:
        """Where the next item is; there is no such attribute if the stream does not say it."""
        if not self._seekable:
            raise AttributeError("position")
        return self._owner.position if self._failed is None else self._failed[1]

    def seek(self, position: Any) -> None:
        """Go to a position of the stream."""
        self._owner.seek(position)
        self._items = iter(self._source)
        self._failed = None

    def take(self, count: int) -> Any:
        """Give the next items as a stack of at most ``count``; ``None`` at the end.

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
        """Stack items up to one that is refused, which is removed with what follows."""
        call = f"train: item {self.number} of the stream"
        try:
            if self._first is None:
                self._first = self._numbers(drawn[0][0])
            block = self._backend.collect([item for item, _ in drawn])
            self._require(block, call, batch=(len(drawn),))
        except Exception:
            # One of them; which one shows when they are looked at one by one.
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
        """Bring an item to the device, if it is made of numbers."""
        made = self._backend.from_host(item)
        for name, leaf in self._backend.named_leaves(self._backend.to_host(made)):
            if leaf.dtype.kind not in "biufcV":
                raise StructureError(f"{name or 'it'} has dtype {leaf.dtype}; wanted are numbers.")
        return made

    def _require(self, block: Any, call: str, *, batch: tuple[int, ...]) -> None:
        hint = "Wanted are items like the first one."
        require_like(self._backend, block, self._first, call=call, batch=batch, hint=hint)


def _refusal(number: int, error: Exception) -> StreamError:
    refusal = StreamError(f"train: item {number} of the stream is malformed. {error}")
    refusal.__cause__ = error
    return refusal


def _counts(position: Any) -> tuple[int, int]:
    """Read how many items were given, and at how many of them the mark was."""
    counts = []
    if type(position) is dict:
        counts = [position.get(name) for name in ("items", "marked")]
    items, marked = counts or (None, None)
    if type(items) is int and type(marked) is int and 0 <= marked <= items:
        return items, marked
    raise StreamError(f"train: {position!r:.200} is no position of a stream.")


def is_seekable(stream: object) -> bool:
    """Say whether a stream can tell where it stands, and go there."""
    # Not isinstance, which from Python 3.12 on sees a position that cannot be asked for.
    try:
        return hasattr(stream, "position") and hasattr(stream, "seek")
    except UnseekableError:
        return False
