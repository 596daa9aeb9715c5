"""The loss along a run: lately, and over all of it."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

# The window of the recent loss is moved on by a part of it.
_PARTS = 16


class Meter:
    """Keep the mean loss since the last line, over the last items, and over the whole run.

    Losses that are not finite are left out of every mean. How many losses are added at a time
    changes no bit of what comes of them.

    Args:
        span: Items that each loss sums over.
        scale: What to multiply a loss by to have it in the task's unit.
        recent: Over how many of the last items the recent loss is taken; up to a sixteenth more,
            as they are dropped some at a time.
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
        """Take the losses of consecutive steps in."""
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
        """The mean over the last items."""
        # Summed anew, as what was added and taken away again leaves its rounding behind.
        return _mean(math.fsum(total for _, total in self._recent), self._recent_count)

    @property
    def cumulated(self) -> float:
        """The mean over the whole run."""
        return _mean(self._total, self._count)

    @property
    def line(self) -> float:
        """The mean since the last line."""
        return _mean(self._line_total, self._line_count)

    def next_line(self) -> None:
        """Begin another line."""
        self._line_total, self._line_count = 0.0, 0

    def export(self) -> dict[str, Any]:
        """Give what it holds, as JSON can say it."""
        return {
            "total": self._total,
            "count": self._count,
            "line": [self._line_total, self._line_count],
            "recent": [list(pair) for pair in self._recent],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Become what was exported.

        Raises:
            ValueError: If it is something else; so do `TypeError`, `KeyError` and the like.
        """
        total, count = _pair(saved["total"], saved["count"])
        line_total, line_count = _pair(*saved["line"])
        recent = [_pair(total, count) for count, total in saved["recent"]]
        self._total, self._count = total, count
        self._line_total, self._line_count = line_total, line_count
        self._recent = deque([(count, total) for total, count in recent] or [(0, 0.0)])
        self._recent_count = sum(count for count, _ in self._recent)


def _on(total: float, losses: Any) -> float:
    """Go on with a sum, from left to right."""
    # Not `sum`, which adds in another order for another number of losses.
    return float(np.add.accumulate(np.concatenate([[total], losses]))[-1])


def _pair(total: Any, count: Any) -> tuple[float, int]:
    if type(count) is not int or count < 0:
        raise ValueError(f"{count!r} is no count")
    return float(total), count


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan
