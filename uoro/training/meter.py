"""Means of the loss: recent, and of the whole run."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

# The window of the recent loss moves by one part at a time.
_PARTS = 16


class Meter:
    """Mean loss since the last line, over the last items, and over the whole run.

    Losses that are not finite are left out of every mean. The means do not depend, to the bit, on
    how many losses are added at a time.

    Args:
        span: Number of items that each loss sums over.
        scale: Factor from a loss to the task's unit.
        recent: Number of last items that the recent loss averages over; up to a sixteenth more, as
            items are dropped in parts.
    """

    def __init__(self, span: int, scale: float, recent: int) -> None:
        self._factor = scale / span
        self._window = max(1, recent // span)
        self._part = max(1, self._window // _PARTS)
        self._total, self._count = 0.0, 0
        self._line_total, self._line_count = 0.0, 0
        # Parts of the window, each a count and a total; the last one is being filled.
        self._recent: deque[tuple[int, float]] = deque([(0, 0.0)])
        self._recent_count = 0

    def add(self, losses: list[float]) -> None:
        """Add the losses of consecutive steps."""
        array = np.asarray(losses, np.float64)
        array = array[np.isfinite(array)] * self._factor
        count = len(array)
        self._total, self._count = _on(self._total, array), self._count + count
        self._line_total = _on(self._line_total, array)
        self._line_count += count
        self._recent_count += count
        while len(array):
            if self._recent[-1][0] >= self._part:
                self._recent.append((0, 0.0))
            held, total = self._recent[-1]
            some, array = np.split(array, [self._part - held])
            self._recent[-1] = held + len(some), _on(total, some)
        while self._recent_count - self._recent[0][0] >= self._window:
            self._recent_count -= self._recent.popleft()[0]

    @property
    def recent(self) -> float:
        """Mean over the last items."""
        # Summed anew: adding and subtracting would leave rounding errors behind.
        return _mean(math.fsum(total for _, total in self._recent), self._recent_count)

    @property
    def cumulated(self) -> float:
        """Mean over the whole run."""
        return _mean(self._total, self._count)

    @property
    def line(self) -> float:
        """Mean since the last line."""
        return _mean(self._line_total, self._line_count)

    def next_line(self) -> None:
        """Begin another line."""
        self._line_total, self._line_count = 0.0, 0

    def export(self) -> dict[str, Any]:
        """Return sums and counts, as JSON holds them."""
        return {
            "total": self._total,
            "count": self._count,
            "line": [self._line_total, self._line_count],
            "recent": [list(pair) for pair in self._recent],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Load what `export` returned.

        Raises:
            ValueError: If ``saved`` is anything else; or `TypeError`, `KeyError` and the like.
        """
        total, count = _pair(saved["total"], saved["count"])
        line_total, line_count = _pair(*saved["line"])
        recent = [_pair(total, count) for count, total in saved["recent"]]
        self._total, self._count = total, count
        self._line_total, self._line_count = line_total, line_count
        self._recent = deque([(count, total) for total, count in recent] or [(0, 0.0)])
        self._recent_count = sum(count for count, _ in self._recent)


def _on(total: float, losses: Any) -> float:
    """Add losses to a sum, from left to right."""
    # `np.sum` adds in another order for another number of losses.
    return float(np.add.accumulate(np.concatenate([[total], losses]))[-1])


def _pair(total: Any, count: Any) -> tuple[float, int]:
    if type(count) is not int or count < 0:
        raise ValueError(f"expected a count, got {count!r}")
    return float(total), count


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan
