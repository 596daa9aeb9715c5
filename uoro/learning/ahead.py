"""A stream whose first item has been looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from uoro.algebra import entry
from uoro.arguments import mismatch
from uoro.backend import Backend
from uoro.errors import StreamError
from uoro.learning.stream import Taking, read


class Ahead(Taking):
    """Return the items of a stream, the first of which is read at once and returned again.

    Args:
        backend: Backend of the items.
        stream: Stream of items.
        call: The call, as the user wrote it.

    Raises:
        StreamError: If there is no item.
    """

    def __init__(self, backend: Backend, stream: Iterator[Any], call: str) -> None:
        self._backend, self._stream = backend, stream
        self.first, count = read(backend, stream, 1)
        if not count:
            raise StreamError(mismatch(call, "", "a stream with items", "one without"))
        self._held = True

    def _one_of(self, items: Any) -> Any:
        """Return the first item of a stack."""
        return entry(self._backend, items, 0)

    def take(self, count: int) -> Any:
        """Return up to ``count`` items as a stack; the first one alone."""
        if self._held:
            self._held = False
            return self.first
        return read(self._backend, self._stream, count)[0]
