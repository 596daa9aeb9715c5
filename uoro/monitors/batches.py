"""Sums along a run in so many batches, in constant memory, and an interval for a ratio of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from uoro.backend import Backend
from uoro.monitors.student import student

BATCHES = 32
"""How many batches a run is cut into at most; from the first merger on there are half as many."""

FEWEST = 8
"""With fewer batches there is no interval."""


class Batches(NamedTuple):
    """Sums of some quantities over stretches of a run of unknown length.

    All stretches but the last have ``length`` samples. When all are full, neighbours are merged and
    the length doubles.

    Attributes:
        count: How many samples there are; an integer.
        length: How many of them make a batch; an integer.
        sums: For each quantity a vector of `BATCHES` sums.
    """

    count: Any
    length: Any
    sums: dict[str, Any]


class Interval(NamedTuple):
    """An estimate, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def start(backend: Backend, names: Sequence[str], precision: str) -> Batches:
    """Make batches without a sample.

    Args:
        backend: Where they live.
        names: The quantities.
        precision: In what they are summed, ``"float32"`` or ``"float64"``.
    """

    def zeros() -> Any:
        zero = backend.from_host(0.0, dtype=precision)
        return backend.xp.stack([zero] * BATCHES)

    sums = {name: zeros() for name in names}
    return Batches(backend.from_host(0), backend.from_host(1), sums)


def add(backend: Backend, batches: Batches, sample: Mapping[str, Any], counts: Any) -> Batches:
    """Add a sample where ``counts`` is true, and nothing elsewhere.

    A float32 sum loses what is smaller than 6e-8 of it; that of a batch meets this last.

    Args:
        backend: The backend of all of it.
        batches: What there is.
        sample: A scalar for each quantity.
        counts: A boolean of the framework's own.
    """
    xp = backend.xp
    full = batches.count == BATCHES * batches.length
    length = xp.where(full, 2 * batches.length, batches.length)
    present = batches.count // length

    def extend(sums: Any, value: Any) -> Any:
        nothing = xp.zeros_like(sums)
        halved = sums.reshape((BATCHES // 2, 2)).sum(1)
        sums = xp.where(full, xp.concatenate([halved, nothing[: BATCHES // 2]]), sums)
        place = xp.cumsum(xp.ones_like(sums), 0) - 1 == present
        return xp.where(place & counts, sums + value, sums)

    ordered = {name: sample[name] for name in batches.sums}
    sums = backend.map(extend, batches.sums, ordered)
    return Batches(xp.where(counts, batches.count + 1, batches.count), length, sums)


def on_host(backend: Backend, batches: Batches) -> dict[str, list[float]]:
    """Read the sums of all batches that have a sample, each quantity as a list."""
    count, length = (int(backend.to_host(number)) for number in batches[:2])
    used = -(-count // length)
    return {name: backend.to_host(row).tolist()[:used] for name, row in batches.sums.items()}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Estimate the ratio of two means from the sums over batches, with a 95 % interval.

    With ``R = Σx/Σy`` and the residual ``x_b - R y_b`` of each of m batches, the variance of R is
    about ``m/(m-1) Σ (x_b - R y_b)² / (Σy)²``, and its error Student's t with m-1 degrees of
    freedom. This assumes that batches are long beside the memory of the process, so that neighbours
    are nearly independent; that their sums are nearly normal, for which heavy tails need long
    batches; and that ``Σy`` is well away from zero.

    Args:
        numerators: A sum for each batch; the last batch may be shorter.
        denominators: The same.

    Returns:
        The ratio and its interval: NaN where there are no numbers or no denominator, and ends that
        are NaN with fewer than `FEWEST` batches.

    References:
        Cochran, "Sampling Techniques", 1977, section 6.4, for the ratio; Alexopoulos & Seila,
        "Output data analysis", 1998, for batch means.
    """
    bottom = math.fsum(denominators) if all(map(math.isfinite, denominators)) else math.nan
    top = math.fsum(numerators) if all(map(math.isfinite, numerators)) else math.nan
    count = len(numerators)
    if not count or not bottom or math.isnan(bottom + top):
        return Interval(math.nan, math.nan, math.nan)
    value = top / bottom
    if count < FEWEST:
        return Interval(value, math.nan, math.nan)
    residuals = [x - value * y for x, y in zip(numerators, denominators, strict=True)]
    spread = math.hypot(*residuals) * math.sqrt(count / (count - 1)) / abs(bottom)
    reach = student(count - 1) * spread
    return Interval(value, value - reach, value + reach)
