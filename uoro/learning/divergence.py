"""Levels of a run, and what is far above them: the loss, the norm of an influence estimate."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

LOSS = 1e2
"""Growth of the loss, over its running median, that counts as divergence."""
PAIR = 1e3
"""Growth of the norm of the influence estimate, over its median, that counts as divergence."""
WINDOW = 64
"""Number of steps whose losses are averaged: a single item may be a surprise."""
HISTORY = 16
ENOUGH = 3


class Level:
    """Compare numbers with the median of those before.

    Args:
        factor: Number over the median from which on a number is far above it.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._before: deque[float] = deque(maxlen=HISTORY)

    def look(self, value: float) -> float | None:
        """Add a number to the history.

        Returns:
            Number over the median of those before, if it exceeds ``factor``.
        """
        before = list(self._before)
        if math.isfinite(value):
            self._before.append(value)
        if len(before) < ENOUGH or not median(before) > 0.0:
            return None
        factor = value / median(before)
        return None if factor <= self._factor else factor


class Alarm:
    """Say once that numbers are far above their level, and stay there.

    Args:
        factor: Growth over the running median that counts.
        window: Number of numbers in a mean; two means in a row have to be far above the median.
    """

    def __init__(self, factor: float, window: int = 1) -> None:
        self._level, self._window = Level(factor), window
        self._sum, self._count = 0.0, 0
        self._high, self._said = False, False

    def add(self, value: float) -> float | None:
        """Add a number, by its absolute value.

        Returns:
            Growth over the median, at the second mean in a row that is far above; ``None`` at all
            others, until the numbers have come down again.
        """
        self._sum += abs(value)
        self._count += 1
        if self._count < self._window:
            return None
        factor = self._level.look(self._sum / self._window)
        self._sum, self._count = 0.0, 0
        say = factor is not None and self._high and not self._said
        self._high, self._said = factor is not None, factor is not None and (self._said or say)
        return factor if say else None
