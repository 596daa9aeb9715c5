"""The loss along a run: lately, and over all of it."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np


class Meter:
    """Keep the mean loss since the last line, over the last items, and over the whole run.

    Losses that are not finite are left out of every mean.

    Args:
        span: Items that each loss sums over.
        scale: What to multiply a loss by to have it in the task's unit.
        recent: Over how many of the last items the recent loss is taken; whole chunks are
            dropped, so that it may be a few more.
    """

    def __init__(self, span: int, scale: float, recent: int) -> None:
        self._factor = scale / span
        self._window = max(1, recent // span)
        self._total, self._count = 0.0, 0
        self._line_total, self._line_count = 0.0, 0
        self._recent: deque[tuple[int, float]] = deque()
        self._recent_count = 0

    def add(self, losses: list[float]) -> None:
        """Take the losses of consecutive steps in."""
        array = np.asarray(losses)
        array = array[np.isfinite(array)]
        count, total = len(array), float(array.sum()) * self._factor
        self._total, self._count = self._total + total, self._count + count
        self._line_total, self._line_count = self._line_total + total, self._line_count + count
        self._recent.append((count, total))
        self._recent_count += count
        while len(self._recent) > 1 and self._recent_count - self._recent[0][0] >= self._window:
            self._recent_count -= self._recent.popleft()[0]

    @property
    def recent(self) -> float:
        """The mean over the last items."""
        # Summed anew, as what was added and taken away again leaves its rounding behind.
        return _mean(math.fsum(total for _, total in self._recent), self._recent_count)

    @property
    def cumulated(self) -> float:
        """The mean over the whole run."""
        return _mean(self._total, self._count)

    def line(self) -> float:
        """Give the mean since this was last called."""
        mean = _mean(self._line_total, self._line_count)
        self._line_total, self._line_count = 0.0, 0
        return mean

    def export(self) -> dict[str, Any]:
        """Give what it holds, as JSON can say it."""
        return {
            "total": self._total,
            "count": self._count,
            "line": [self._line_total, self._line_count],
            "recent": [list(pair) for pair in self._recent],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Become what was exported."""
        self._total, self._count = float(saved["total"]), int(saved["count"])
        self._line_total, self._line_count = float(saved["line"][0]), int(saved["line"][1])
        self._recent = deque((int(count), float(total)) for count, total in saved["recent"])
        self._recent_count = sum(count for count, _ in self._recent)


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan
