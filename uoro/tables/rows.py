"""The protocol of a reader of rows."""

from __future__ import annotations

from typing import Any, Protocol

from uoro.tables.arrow import Matrix


class Rows(Protocol):
    """A sequence of rows of numbers that knows its position and can be read on from one."""

    @property
    def lap(self) -> int:
        """Number of times that the whole table was read before the last row."""
        ...

    @property
    def skipped(self) -> int:
        """Number of malformed rows and cells left out up to the position."""
        ...

    @property
    def position(self) -> Any:
        """Position of the next row, a JSON value."""
        ...

    def seek(self, position: Any) -> None:
        """Continue at a position, or raise a StreamError and stay."""
        ...

    def read(self, count: int) -> Matrix | None:
        """Return at most ``count`` rows of one lap, none while none has come; ``None`` at the end.

        A gap is NaN.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Wait until there may be more, or the time is over."""
        ...

    def catch_up(self) -> bool:
        """Read up to a position that was sought; return whether it is reached."""
        ...
