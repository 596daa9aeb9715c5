"""A stream over a source that still grows: it waits for more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from uoro.learning.stream import Taking
from uoro.tasks.pairs import PairStream, SymbolReader

PAUSE = 0.2


def without_end(seconds: float) -> bool:
    """Return true: wait forever."""
    return True


class GrowingStream(Taking):
    """A stream of ``{"symbol", "target"}`` over a growing source; it waits for the first item.

    The last symbol has no target yet and is held back. No item is lost or repeated if waiting is
    interrupted.

    Args:
        reader: The sequence of symbols.
        wait: A function that waits a number of seconds, or until there is more.
        catch_up: A function that returns whether the reader has arrived at the position it was
            sent to; default always.

    Attributes:
        waiting: Called about every 0.2 s while there is no item, with the seconds waited. If it
            returns false, `take` returns ``None`` as at the end, and a later call continues. By
            default it returns true: the stream waits forever.
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

    @property
    def skipped(self) -> int:
        """Number of malformed symbols left out so far."""
        return self._pairs.skipped

    @property
    def position(self) -> dict[str, Any]:
        """Position of the sequence, and the symbols read but not yet returned."""
        return self._pairs.position

    def seek(self, position: Any) -> None:
        """Continue at a position of an equal stream.

        A pipe that restarts is first read up to the position; if this is interrupted, the next
        `take` continues it.

        Raises:
            StreamError: If the position is invalid, or the bytes before it are not those read.
        """
        self._pairs.seek(position)
        self._until(self._catch_up)

    def take(self, count: int) -> Any:
        """Return at most ``count`` of the items that have come; ``None`` at the end."""
        return self.take_windows(count, 1)

    def take_windows(self, count: int, length: int) -> Any:
        """Return the items of at most ``count`` windows that have come whole; ``None`` at the end.

        Args:
            count: Number of windows at most.
            length: Number of items of a window.

        Raises:
            StreamError: If the sequence cannot be read, after all earlier windows were returned.
        """
        items: Any = None

        def there() -> bool:
            nonlocal items
            items = self._pairs.take_windows(count, length)
            return items is None or count == 0 or len(items["symbol"]) > 0

        return items if self._until(there) else None

    def _until(self, done: Callable[[], bool]) -> bool:
        """Wait until a condition holds; return false if waiting was interrupted."""
        began = None
        while not done():
            began = time.monotonic() if began is None else began
            if not self.waiting(time.monotonic() - began):
                return False
            self._wait(PAUSE)
        return True
