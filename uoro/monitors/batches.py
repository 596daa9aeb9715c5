"""Sums over batches of a run, in constant memory, and an interval for the ratio of two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from uoro.backend import Backend
from uoro.monitors.student import student

BATCHES = 32
"""Largest number of batches; after the first merger there are at least half as many."""

FEWEST = 8
"""Smallest number of batches that gives an interval."""


class Batches(NamedTuple):
    """Sums of several quantities over batches of a run of unknown length.

    All batches but the last have ``length`` samples. When all are full, neighbours are merged and
    the length doubles.

    Attributes:
        count: Number of samples, an integer.
        length: Number of samples in a batch, an integer.
        sums: A vector of `BATCHES` sums for each quantity.
    """

    count: Any
    length: Any
    sums: dict[str, Any]


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def start(backend: Backend, names: Sequence[str], precision: str) -> Batches:
    """Return batches without a sample.

    Args:
        backend: Backend of the sums.
        names: Names of the quantities.
        precision: Dtype of the sums, ``"float32"`` or ``"float64"``.
    """

    def zeros() -> Any:
        zero = backend.from_host(0.0, dtype=precision)
        return backend.xp.stack([zero] * BATCHES)

    sums = {name: zeros() for name in names}
    return Batches(backend.from_host(0), backend.from_host(1), sums)


def add(backend: Backend, batches: Batches, sample: Mapping[str, Any], counts: Any) -> Batches:
    """Add a sample if ``counts`` is true.

    A float32 sum loses summands below 6e-8 of its size; sums over batches stay small for longest.

    Args:
        backend: Backend of the sums.
        batches: Batches so far.
        sample: A scalar for each quantity.
        counts: Boolean scalar of the framework.
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
    """Return the sums of all batches with a sample, one list for each quantity."""
    count, length = (int(backend.to_host(number)) for number in batches[:2])
    used = -(-count // length)
    return {name: backend.to_host(row).tolist()[:used] for name, row in batches.sums.items()}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Estimate the ratio of two means from sums over batches, with a 95 % interval.

    With ``R = Σx/Σy`` and the residual ``x_b - R y_b`` of each of m batches, the variance of R is
    about ``m/(m-1) Σ (x_b - R y_b)² / (Σy)²``, and the error of R follows Student's t with m-1
    degrees of freedom. Assumptions: batches are much longer than the memory of the process, so that
    neighbours are nearly independent; sums over batches are nearly normal, for which heavy tails
    need long batches; ``Σy`` is well away from zero.

    Args:
        numerators: One sum for each batch; the last batch may be shorter.
        denominators: One sum for each batch.

    Returns:
        The ratio and its interval. All three are NaN without numbers or with a denominator of
        zero; the ends are NaN with fewer than `FEWEST` batches.

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
