"""Timing: the rows of a group take turns, so that a slow moment of the machine hits all rows."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from uoro.lab.bench.instrument import Timed


class Spread(NamedTuple):
    """A median and its quartiles.

    Attributes:
        low: Lower quartile.
        median: Median.
        high: Upper quartile.
    """

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles of repetitions."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def ratios(times: Sequence[float], base: Sequence[float]) -> Spread:
    """Return the spread of the ratios, each within one repetition."""
    return spread([time / other for time, other in zip(times, base, strict=True)])


class Calibrated(NamedTuple):
    """A row that is compiled, with its number of calls per turn.

    Attributes:
        timed: The row.
        calls: Number of calls per turn.
        first_call: Excess of the first call over later calls, in seconds: compilation.
    """

    timed: Timed
    calls: int
    first_call: float


def calibrate(timed: Timed, seconds: float) -> Calibrated:
    """Call a row until it is compiled, and find the number of calls that last ``seconds``."""
    first = _seconds(timed.run)
    _seconds(timed.run)
    calls, spent = 1, _seconds(timed.run)
    once = spent
    while spent < 0.5 * seconds:
        calls = min(10 * calls, max(calls + 1, round(calls * seconds / spent)))
        spent = _seconds(timed.run, calls)
        once = spent / calls
    return Calibrated(timed, max(1, round(seconds / once)), max(0.0, first - once))


def take_turns(
    rows: Mapping[Any, Calibrated], repetitions: int, report: Callable[[float], None]
) -> dict[Any, list[float]]:
    """Time each row once per repetition, in alternating order.

    Returns:
        For each row, the microseconds per item of every repetition.
    """
    times: dict[Any, list[float]] = {name: [] for name in rows}
    order = list(rows)
    gc.collect()
    for repetition in range(repetitions):
        for place, name in enumerate(order):
            report((repetition + place / len(order)) / repetitions)
            row = rows[name]
            spent = _seconds(row.timed.run, row.calls)
            times[name].append(1e6 * spent / (row.calls * row.timed.items))
        order.reverse()
    return times


def _seconds(function: Callable[[], None], calls: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - start
