"""A loss curve of bounded size, however long the run."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

BINS_PER_DECADE = 24
RECENT = 1000


class Point(NamedTuple):
    """Mean loss over a stretch of the stream.

    Attributes:
        item: Number of items up to the end of the stretch.
        loss: Mean loss per item.
    """

    item: int
    loss: float


class Curve:
    """Mean losses over stretches whose length grows in proportion to time.

    Args:
        span: Number of items that each reported loss sums over.
        scale: Factor of the losses.
    """

    def __init__(self, *, span: int = 1, scale: float = 1.0) -> None:
        self.points: list[Point] = []
        self.items = 0
        self.first = math.nan
        self.last = math.nan
        self._span = span
        self._scale = scale
        self._recent: deque[float] = deque(maxlen=max(1, RECENT // span))
        self._sum = 0.0
        self._count = 0

    def add(self, losses: list[float]) -> None:
        """Append the losses of consecutive steps; NaN, one that is not known, is left out."""
        done = 0
        while done < len(losses):
            # Up to and with the step that leaves the present bin.
            left = max(1, -(-(_next_bin(self.items) - self.items) // self._span))
            new = [loss * self._scale / self._span for loss in losses[done : done + left]]
            known = [loss for loss in new if not math.isnan(loss)]
            if known:
                self.first = known[0] if math.isnan(self.first) else self.first
                self.last = known[-1]
            self._recent.extend(known)
            self._sum += sum(known)
            self._count += len(known)
            self.items += len(new) * self._span
            done += len(new)
            if len(new) == left:
                self._close()

    @property
    def recent(self) -> float:
        """Mean loss over the last thousand items, or over the last tenth of a shorter run."""
        kept = list(self._recent)
        tenth = max(1, self.items // self._span // 10)
        return float(np.mean(kept[-tenth:])) if kept else math.nan

    def finished(self) -> list[Point]:
        """Return all points, the last stretch included even if incomplete."""
        if self._count:
            self._close()
        return self.points

    def _close(self) -> None:
        if self._count:
            self.points.append(Point(self.items, self._sum / self._count))
        self._sum, self._count = 0.0, 0


def _next_bin(item: int) -> int:
    """Return the first item of the next bin; every bin has at least one item."""
    if item == 0:
        return 1
    number = math.floor(math.log10(item) * BINS_PER_DECADE + 1e-9)
    edge = item
    while edge <= item:
        number += 1
        edge = math.ceil(10 ** (number / BINS_PER_DECADE) - 1e-6)
    return edge
