"""Streams of what is still being written: they wait for more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from uoro.tasks.pairs import PairStream, SymbolReader

PAUSE = 0.2


def without_end(seconds: float) -> bool:
    """Wait for ever."""
    return True


class GrowingStream:
    """A stream of ``{"symbol", "target"}`` that gives what is there, and waits for the first item.

    The last symbol has no target yet and is held back. Nothing is lost or given twice where
    waiting is broken off.

    Args:
        reader: The sequence of symbols.
        wait: Waits so many seconds, or until there is more.
        catch_up: Whether the reader is where it was sent to, if that can take time.

    Attributes:
        waiting: Called with the seconds since it began to wait, about every 0.2 s while there is
            no item. Where it returns false, `take` gives ``None`` as at the end, and a later call
            goes on. Without an end unless it is set.
    """

    def __init__(
        self,
        reader: SymbolReader,
        wait: Callable[[float], None],
        catch_up: Callable[[], bool] = lambda: True,
    ) -> None:
        self.waiting: Callable[[float], bool] = without_end
        self._pairs = PairStream(reader)
        self._wait = wait
        self._catch_up = catch_up

    def __iter__(self) -> GrowingStream:
        return self

    def __next__(self) -> dict[str, Any]:
        items = self.take(1)
        if items is None:
            raise StopIteration
        return {name: column[0] for name, column in items.items()}

    @property
    def skipped(self) -> int:
        """How much was left out so far, as it was malformed."""
        return self._pairs.skipped

    @property
    def position(self) -> dict[str, Any]:
        """Where the sequence stands, and the symbols that were read and are yet to come."""
        return self._pairs.position

    def seek(self, position: Any) -> None:
        """Go to a position of a stream made alike.

        Where a pipe has to be read again up to there, that is waited for too; broken off, it goes
        on with the next `take`.

        Raises:
            StreamError: If it is none, or what was read before is not there.
        """
        self._pairs.seek(position)
        self._until(self._catch_up)

    def take(self, count: int) -> Any:
        """Give the pairs that are there, at most ``count``; ``None`` at the end."""
        return self.take_windows(count, 1)

    def take_windows(self, count: int, length: int) -> Any:
        """Give the pairs of the windows that are there as a whole; ``None`` at the end.

        Args:
            count: How many windows at most.
            length: How many pairs make one.

        Raises:
            StreamError: If the sequence cannot be read on, and all windows before were given.
        """
        items: Any = None

        def there() -> bool:
            nonlocal items
            items = self._pairs.take_windows(count, length)
            return items is None or count == 0 or len(items["symbol"]) > 0

        return items if self._until(there) else None

    def _until(self, done: Callable[[], bool]) -> bool:
        """Wait until something is done; say whether it was, or waiting was broken off."""
        began = None
        while not done():
            began = time.monotonic() if began is None else began
            if not self.waiting(time.monotonic() - began):
                return False
            self._wait(PAUSE)
        return True
