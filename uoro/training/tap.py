"""A stream with a counter on it: where it stands, and what it gave last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeGuard

from uoro.algebra import require_like, take
from uoro.backend import Backend
from uoro.errors import StreamError, StructureError
from uoro.log import LOGGER
from uoro.stream import BlockStream, SeekableStream
from uoro.stream import take as read


class Tap:
    """Pass a stream on; note how many items it gave, and the newest.

    Args:
        backend: Where the items go.
        stream: Any.

    Attributes:
        items: How many were given.
        newest: The last of them; ``None`` before the first.
    """

    def __init__(self, backend: Backend, stream: Iterable[Any]) -> None:
        self._backend = backend
        self._stream: Iterator[Any] = iter(stream)
        self.items = 0
        self.newest: Any = None

    def __iter__(self) -> Tap:
        return self

    def __next__(self) -> Any:
        item = next(self._stream)
        self.items += 1
        self.newest = item
        return item

    def take(self, count: int) -> Any:
        """Give the next items as a stack of at most ``count``; ``None`` at the end."""
        block, got = read(self._backend, self._stream, count)
        if got:
            self.items += got
            self.newest = take(self._backend, block, -1)
        return block

    @property
    def position(self) -> Any:
        """Where the next item is, as JSON can say it."""
        own = self._stream.position if _seekable(self._stream) else None
        return {"items": self.items, "own": own}

    def seek(self, position: Any) -> None:
        """Go to where a stream made alike was.

        One that does not know where it stands is gone through up to there.

        Raises:
            StreamError: If it cannot go there.
        """
        try:
            items, own = int(position["items"]), position["own"]
        except (TypeError, KeyError, ValueError) as error:
            raise StreamError(f"train: {position!r} is no position of a stream.") from error
        if _seekable(self._stream):
            self._stream.seek(own)
        elif items:
            LOGGER.info("the stream does not say where it is: %d items are dropped", items)
            dropped = sum(1 for _ in islice(self._stream, items))
            if dropped < items:
                raise StreamError(
                    f"train: the stream ended after {dropped} items, and {items} were used before. "
                    "Give one that begins as it did, or one that has position and seek."
                )
        self.items = items


def _seekable(stream: object) -> TypeGuard[SeekableStream]:
    # Not isinstance, which from Python 3.12 on sees a position that cannot be asked for.
    return hasattr(stream, "position") and hasattr(stream, "seek")


def alike(backend: Backend, stream: Iterable[Any]) -> Iterable[Any]:
    """Refuse items that are not like the first one; streams of blocks are taken at their word.

    Raises:
        StreamError: While it is read, naming the item.
    """
    return stream if isinstance(stream, BlockStream) else _alike(backend, stream)


def _alike(backend: Backend, stream: Iterable[Any]) -> Iterator[Any]:
    first: Any = None
    for number, each in enumerate(stream):
        try:
            item = backend.from_host(each)
            if number:
                require_like(
                    backend,
                    item,
                    first,
                    call=f"train: item {number} of the stream",
                    hint="Wanted are items like the first one.",
                )
        except (StructureError, TypeError, ValueError) as error:
            raise StreamError(
                f"train: item {number} of the stream is malformed. {error}"
            ) from error
        first = item if number == 0 else first
        yield item
