"""Rows of a table as inputs and targets, scaled by what was seen up to each row and no further."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from uoro.learning.stream import not_a_position
from uoro.tables import Columns
from uoro.tables.arrow import Matrix

LARGEST = 10.0
"""Standard deviations, and usual changes of a target, at which inputs and targets are cut off."""
_ROUNDING = 1e-12


class Made(NamedTuple):
    """What is made of some rows, one entry for each.

    Attributes:
        items: Items of the stream: ``"newest"``, the inputs of the row before; ``"inputs"``, those
            of the row from which this one was to be predicted; ``"target"``, the change of each
            target since then in usual changes; ``"weight"``, 1 where it is known; ``"change"``,
            ``"scale"`` and ``"base"``, the change, the usual change then, and the last value known
            then, in the unit of the target.
        inputs: Inputs of the row itself.
        values: Value of each target at the row; NaN where it is not known.
        times: Time of each row in seconds; NaN where it is not known.
        base: Last known value of each target at the row.
        scale: Usual change of each target at the row: the root of the mean square so far.
    """

    items: dict[str, Any]
    inputs: Matrix
    values: Matrix
    times: Matrix
    base: Matrix
    scale: Matrix


@dataclass(frozen=True)
class Layout:
    """Which inputs are made of a row.

    Attributes:
        columns: Columns of the table.
        targets: Places of the targets among them.
        horizon: h, the number of rows ahead at which they are predicted.
        cycles: Lengths in seconds of the cycles of which sine and cosine are inputs.
    """

    columns: Columns
    targets: tuple[int, ...]
    horizon: int
    cycles: tuple[float, ...] = ()

    @property
    def scaled(self) -> int:
        """Number of inputs that are scaled: numbers, and the time since the row before."""
        return len(self.columns.numbers) + (self.columns.time is not None)

    @property
    def width(self) -> int:
        """Number of inputs: each number with a mask, categories one by one, cycles in pairs."""
        codes = sum(len(self.columns.each[i].values) + 1 for i in self.columns.categories)
        return 2 * self.scaled + codes + 2 * len(self.cycles)


class Running:
    """Statistics up to a row, and what the next rows need of the rows before.

    The numbers made of a row do not depend, to the bit, on how many rows come at a time.

    Args:
        layout: Which inputs are made.

    Attributes:
        counts: Number of rows, of gaps among the cells, of values of no known category, and of
            inputs cut off.
        missing: Number of gaps of each target.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # Looked up once: a step of an eager framework takes a single row.
        self._numbers, self._categories = layout.columns.numbers, layout.columns.categories
        self._place_of_time = layout.columns.time
        many, targets, h = layout.scaled, len(layout.targets), layout.horizon
        self.counts: dict[str, int] = dict.fromkeys(("rows", "gaps", "other", "clipped"), 0)
        self.missing = np.zeros(targets)
        self._first = np.full(many, np.nan)
        self._sums = np.zeros((3, many))
        self._changes = np.zeros((2, targets))
        self._last = np.full(targets, np.nan)
        self._time = np.full(1, np.nan)
        self._inputs = np.zeros((h, layout.width))
        self._bases, self._scales = np.full((h, targets), np.nan), np.zeros((h, targets))

    def restart(self) -> None:
        """Begin another series: statistics stay, and nothing is judged across the cut."""
        self._last[:] = np.nan
        self._time[:] = np.nan
        self._bases[:], self._scales[:] = np.nan, 0.0

    @property
    def newest(self) -> Matrix:
        """Inputs of the last row."""
        newest: Matrix = self._inputs[-1].copy()
        return newest

    def backwards(self, rows: Matrix) -> int | None:
        """Return the index of the first row that is earlier than one before it, if there is one."""
        place = self._place_of_time
        if place is None:
            return None
        times = np.concatenate([self._time, rows[:, place]])
        latest = np.fmax.accumulate(times)
        found = np.flatnonzero(times[1:] < latest[:-1])
        return int(found[0]) if len(found) else None

    def take(self, rows: Matrix) -> Made:
        """Make items of the next rows."""
        inputs = self._take_inputs(rows)
        base, scale, change = self._take_targets(rows)
        h, count = self.layout.horizon, len(rows)
        all_inputs = np.concatenate([self._inputs, inputs])
        bases, scales = (
            np.concatenate(pair) for pair in ((self._bases, base), (self._scales, scale))
        )
        self._inputs, self._bases, self._scales = all_inputs[-h:], bases[-h:], scales[-h:]
        then = scales[:count]
        weight = np.isfinite(change) & (then > 0)
        ratio = np.where(weight, change, 0.0) / np.where(weight, then, 1.0)
        items = {
            "newest": all_inputs[h - 1 : h - 1 + count],
            "inputs": all_inputs[:count],
            "target": np.clip(ratio, -LARGEST, LARGEST),
            "weight": weight.astype(np.float64),
            "change": np.where(weight, change, 0.0),
            "scale": then,
            "base": np.where(np.isfinite(bases[:count]), bases[:count], 0.0),
        }
        self.counts["rows"] += count
        place = self._place_of_time
        times = np.full(count, np.nan) if place is None else rows[:, place]
        values = rows[:, self.layout.targets]
        return Made(items, inputs, values, times, base, scale)

    def _take_inputs(self, rows: Matrix) -> Matrix:
        columns, place_of_time = self.layout.columns, self._place_of_time
        numbers = rows[:, self._numbers]
        self.counts["gaps"] += int(np.isnan(numbers).sum())
        parts = [numbers] if place_of_time is None else [numbers, self._elapsed(rows)]
        scaled, known = self._scale(np.concatenate(parts, axis=1))
        made = [scaled, known.astype(np.float64)]
        for place in self._categories:
            codes, size = rows[:, place], len(columns.each[place].values) + 1
            self.counts["other"] += int((codes == size - 1).sum())
            self.counts["gaps"] += int(np.isnan(codes).sum())
            made.append((codes[:, None] == np.arange(size)).astype(np.float64))
        if place_of_time is not None:
            times = rows[:, place_of_time]
            self.counts["gaps"] += int(np.isnan(times).sum())
            made += [_phases(times, period) for period in self.layout.cycles]
        return np.concatenate(made, axis=1)

    def _elapsed(self, rows: Matrix) -> Matrix:
        times = np.concatenate([self._time, rows[:, self._place_of_time]])
        latest = np.fmax.accumulate(times)
        elapsed = times[1:] - latest[:-1]
        self._time = latest[-1:]
        return np.where(elapsed >= 0, elapsed, np.nan)[:, None]

    def _scale(self, numbers: Matrix) -> tuple[Matrix, Any]:
        """Return numbers minus their mean so far, in standard deviations so far, and a mask."""
        known = np.isfinite(numbers)
        if len(numbers):
            fresh = np.isnan(self._first) & known.any(axis=0)
            rows = known.argmax(axis=0)
            self._first[fresh] = numbers[rows, np.arange(numbers.shape[1])][fresh]
        # Sums about the first value: squares of the numbers themselves would lose their digits.
        shifted = np.where(known, numbers - np.where(known, self._first, 0.0), 0.0)
        count, total, squares = self._accumulate(
            self._sums, np.stack([known.astype(np.float64), shifted, shifted * shifted])
        )
        some = np.maximum(count, 1.0)
        mean, square = total / some, squares / some
        variance = square - mean * mean
        varies = known & (variance > _ROUNDING * square)
        ratio = (shifted - mean) / np.sqrt(np.where(varies, variance, 1.0))
        scaled = np.where(varies, ratio, 0.0)
        self.counts["clipped"] += int((np.abs(scaled) > LARGEST).sum())
        return np.clip(scaled, -LARGEST, LARGEST), known

    def _take_targets(self, rows: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """Return last value known, usual change so far, and change over the horizon."""
        values = rows[:, self.layout.targets]
        known = np.isfinite(values)
        self.missing += (~known).sum(axis=0)
        held = np.concatenate([self._last[None], values])
        index = np.where(known, np.arange(1, len(rows) + 1)[:, None], 0)
        base = np.take_along_axis(held, np.maximum.accumulate(index, axis=0), axis=0)
        change = values - np.concatenate([self._bases, base])[: len(rows)]
        there = np.isfinite(change)
        square = np.where(there, change, 0.0) ** 2
        count, total = self._accumulate(self._changes, np.stack([there.astype(np.float64), square]))
        if len(rows):
            self._last = base[-1].copy()
        return base, np.sqrt(total / np.maximum(count, 1.0)), change

    @staticmethod
    def _accumulate(sums: Matrix, numbers: Matrix) -> Matrix:
        """Add rows of numbers to sums, one after the other; return the sums after each."""
        after = np.add.accumulate(np.concatenate([sums[:, None], numbers], axis=1), axis=1)
        sums[:] = after[:, -1]
        return after[:, 1:]

    def export(self) -> dict[str, Any]:
        """Return everything that determines what is made of the next rows, as JSON holds it."""
        numbers = np.concatenate([array.reshape(-1) for array in self._arrays()])
        return {
            "counts": dict(self.counts),
            "numbers": base64.b64encode(numbers.astype("<f8").tobytes()).decode(),
        }

    def restore(self, saved: Any) -> None:
        """Load what `export` returned.

        Raises:
            StreamError: If it is anything else, or of other columns.
        """
        arrays = self._arrays()
        try:
            numbers = np.frombuffer(base64.b64decode(saved["numbers"]), "<f8")
            counts = {name: saved["counts"][name] for name in self.counts}
            if len(numbers) != sum(array.size for array in arrays):
                raise ValueError(f"it holds {len(numbers)} numbers")
            if any(type(count) is not int or count < 0 for count in counts.values()):
                raise ValueError("its counts are none")
        except (LookupError, TypeError, ValueError) as error:
            wanted = f"the statistics of a table with these columns: {error}"
            raise not_a_position("table", saved, wanted) from error
        for array in arrays:
            part, numbers = numbers[: array.size], numbers[array.size :]
            array[...] = part.reshape(array.shape)
        self.counts = counts

    def _arrays(self) -> list[Matrix]:
        self._time = np.array(self._time)
        self._inputs, self._bases, self._scales = map(
            np.array, (self._inputs, self._bases, self._scales)
        )
        return [
            *(self.missing, self._first, self._sums, self._changes, self._last, self._time),
            *(self._inputs, self._bases, self._scales),
        ]


def _phases(times: Matrix, period: float) -> Matrix:
    """Return sine and cosine of times in a cycle; zeros where there is no time."""
    # One by one: NumPy's functions of many numbers may round differently for another many.
    angles = (2.0 * math.pi / period * np.mod(times, period)).tolist()
    return np.array(
        [(math.sin(a), math.cos(a)) if math.isfinite(a) else (0.0, 0.0) for a in angles]
    ).reshape(len(angles), 2)
