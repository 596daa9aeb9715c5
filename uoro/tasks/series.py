"""The stream of a table: one item for each row, with what was to be predicted at it."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np

from uoro.errors import StreamError
from uoro.learning.stream import Taking, not_a_position
from uoro.tables.arrow import Matrix
from uoro.tables.rows import Rows
from uoro.tasks import growing
from uoro.tasks.growing import without_end
from uoro.tasks.running import Layout, Made, Running

NAMES = {"rows", "running", "lap", "began"}


class TableStream(Taking):
    """A stream of the items of a table; see `uoro.tasks.running.Made`.

    Items begin at the first row at which a prediction can be judged. Each later row is an item,
    whether its targets are known or not.

    Args:
        rows: Reader of the rows.
        layout: What is made of a row.
        backwards: Whether to ``"stop"`` at a row that is earlier than one before it, or to
            ``"skip"`` the time since.

    Attributes:
        running: Statistics up to the last row.
    """

    def __init__(self, rows: Rows, layout: Layout, *, backwards: Literal["stop", "skip"]) -> None:
        self.running = Running(layout)
        self._rows, self._backwards = rows, backwards
        self._began, self._lap, self._back = False, 0, 0
        self._at = rows.position
        # Rows that were refused, and are so again.
        self._held: Matrix | None = None

    @property
    def skipped(self) -> int:
        """Number of malformed rows and cells left out so far."""
        return self._rows.skipped + self._back

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows, gaps, values of no known category, and inputs cut off."""
        return {str(name): count for name, count in self.running.counts.items()}

    @property
    def position(self) -> dict[str, Any]:
        """Position of the next row, and the statistics up to it."""
        return {
            "rows": self._at,
            "running": self.running.export() | {"backwards": self._back},
            "lap": self._lap,
            "began": self._began,
        }

    def seek(self, position: Any) -> None:
        """Continue at a position of an equal stream.

        Raises:
            StreamError: If the position is invalid, or the table differs from the one read.
        """
        if type(position) is not dict or set(position) != NAMES:
            raise not_a_position("table", position, f"a dict of {', '.join(sorted(NAMES))}")
        running, lap, began = (position[name] for name in ("running", "lap", "began"))
        back = running.get("backwards") if type(running) is dict else None
        if type(lap) is not int or type(began) is not bool or type(back) is not int:
            raise not_a_position("table", position, "a number of laps, and what was seen")
        fresh = Running(self.running.layout)
        fresh.restore(running)
        self._rows.seek(position["rows"])
        self.running, self._lap, self._began, self._back = fresh, lap, began, back
        self._at, self._held = position["rows"], None

    def take(self, count: int) -> Any:
        """Return at most ``count`` items, fewer at the end alone; ``None`` behind it.

        Raises:
            StreamError: If the table cannot be read, or there is nothing to predict in it, after
                all earlier items were returned.
        """
        parts: list[dict[str, Any]] = []
        missing = count
        while missing or not count:
            try:
                made = self.advance(missing)
            except StreamError:
                if parts:
                    break
                raise
            if made is None:
                if not (self._began or parts):
                    raise self._unjudged()
                break
            if not len(made.base):
                return _joined(parts) if parts else self.nothing()
            items = self._begin(made.items)
            if items is not None:
                parts.append(items)
                missing -= len(items["weight"])
        return _joined(parts) if parts else None

    def _begin(self, items: dict[str, Any]) -> dict[str, Any] | None:
        """Return the items from the first that can be judged; ``None`` if none can."""
        if not self._began:
            judged = np.flatnonzero(items["weight"].any(axis=1))
            if not len(judged):
                return None
            self._began = True
            return {name: part[judged[0] :] for name, part in items.items()}
        return items

    def advance(self, count: int) -> Made | None:
        """Return what is made of at most ``count`` rows; ``None`` at the end."""
        rows = self._rows.read(count) if self._held is None else self._held
        if rows is None:
            return None
        if self._rows.lap != self._lap:
            self._lap = self._rows.lap
            self.running.restart()
        if len(rows) and (earlier := self.running.backwards(rows)) is not None:
            self._held = rows
            self._require_forwards(rows, earlier)
        self._held = None
        made = self.running.take(rows.reshape(len(rows), len(self.running.layout.columns.each)))
        self._at = self._rows.position
        return made

    def _require_forwards(self, rows: Matrix, row: int) -> None:
        if self._backwards == "skip":
            place = self.running.layout.columns.time
            times = rows[:, place]
            self._back += int((times < np.fmax.accumulate(times)).sum()) or 1
            return
        number = self.running.counts["rows"] + row + 1
        name = self.running.layout.columns.names[self.running.layout.columns.time or 0]
        raise StreamError(
            f"table.stream(): row {number}: {name!r}: expected a time no earlier than those of the "
            "rows before, got an earlier one. Sort the table, or count such rows and go on: "
            "malformed='skip'."
        )

    def wait(self, seconds: float) -> None:
        """Wait until there may be another row, or the time is over."""
        self._rows.wait(seconds)

    def nothing(self) -> dict[str, Any]:
        """Return no items, as a stack of them."""
        return self.running.take(np.zeros((0, len(self.running.layout.columns.each)))).items

    def _unjudged(self) -> StreamError:
        rows, h = self.running.counts["rows"], self.running.layout.horizon
        if rows <= h:
            return StreamError(
                f"table.stream(): expected more rows than the horizon, {h}, got {rows}. Predict "
                "fewer rows ahead, or give a longer table."
            )
        return StreamError(
            f"table.stream(): expected a target that changes, got none in {rows} rows that does "
            f"so over {h} rows. Choose another target, or give a longer table."
        )


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class GrowingTable(TableStream):
    """A stream of a table that still grows; it waits for the next row.

    Attributes:
        waiting: Called about every 0.2 s while there is no row, with the seconds waited. If it
            returns false, `take` returns ``None`` as at the end, and a later call continues. By
            default it returns true: the stream waits forever.
    """

    def __init__(self, rows: Rows, layout: Layout, *, backwards: Literal["stop", "skip"]) -> None:
        super().__init__(rows, layout, backwards=backwards)
        self.waiting: Any = without_end

    def take(self, count: int) -> Any:
        """Return at most ``count`` of the items that have come; ``None`` at the end."""
        began = None
        while True:
            if self._rows.catch_up():
                items = super().take(count)
                if items is None or count == 0 or len(items["weight"]):
                    return items
            began = time.monotonic() if began is None else began
            if not self.waiting(time.monotonic() - began):
                return None
            self._rows.wait(growing.PAUSE)
