"""The first item of a stream, looked at before it is read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from uoro.algebra import entry
from uoro.backend import Backend
from uoro.errors import SettingError, StreamError
from uoro.learning.ahead import Ahead
from uoro.learning.stream import BlockStream, Growing, SeekableStream
from uoro.training.tap import is_seekable


def peek(backend: Backend, stream: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """Return the first item of a stream, and a stream that still begins with it.

    Args:
        backend: Backend of the items.
        stream: Any stream, unread.

    Raises:
        SettingError: If the stream still grows, and may have no item yet.
        StreamError: If the stream has no items.
    """
    if isinstance(stream, Growing):
        raise SettingError(
            "train(estimator='auto'): expected a stream whose first item is there, got one that "
            "still grows. Name the estimator, as in 'kron:2'."
        )
    if isinstance(stream, BlockStream):
        position = stream.position if isinstance(stream, SeekableStream) else None
        ahead = Ahead(backend, stream, "train")
        first = entry(backend, ahead.first, 0)
        if not isinstance(stream, SeekableStream):
            return first, ahead
        stream.seek(position)
        return first, stream
    items: Any = iter(stream)
    owner: Any = stream if is_seekable(stream) else items
    position = owner.position if is_seekable(owner) else None
    for first in items:
        if is_seekable(owner):
            owner.seek(position)
            return first, stream
        # A list begins anew at each loop, an iterator does not.
        return first, stream if items is not stream else chain([first], items)
    raise StreamError("train: expected a stream with items, got one without.")
