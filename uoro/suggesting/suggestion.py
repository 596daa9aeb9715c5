"""What `uoro.suggest` returns: rows, a recommendation, and a table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from uoro.estimators.recommending import Facts, Row
from uoro.estimators.spelling import Choice

HEADINGS = ("estimator", "guarantee", "bias", "noise", "µs a step", "quartiles", "memory")
TINY = 1e-9
"""Relative squares below which only rounding is left."""


@dataclass(frozen=True)
class Suggestion:
    """A recommended estimator, with the measurements behind it.

    ``str()`` of it is a table.

    Attributes:
        recommended: The estimator, with its spelling (``recommended.name``,
            ``recommended.estimator``); ``None`` if none meets the request.
        reason: Reason, in words.
        rows: One row for each estimator, the fastest first.
        reference: What the gradients were compared with, in words.
        state: At which params the numbers were measured, in words.
        left_out: Estimators that were not measured, each with the reason.
        facts: Structure and sizes of the model.
        steps: Number of items that gradients were compared on.
        backend: Name of the backend and its device.
        took: Seconds of the whole measurement.
    """

    recommended: Choice | None
    reason: str
    rows: tuple[Row, ...]
    reference: str
    state: str
    left_out: dict[str, str]
    facts: Facts
    steps: int
    backend: str
    took: float

    def __str__(self) -> str:
        lines = [HEADINGS, *map(cells, self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*table, "", *self.remarks()])

    def remarks(self) -> list[str]:
        """Return what stands below the table: the recommendation, and how it was measured."""
        facts = self.facts
        lines = [
            f"Recommended: {'none' if self.recommended is None else self.recommended.name}. "
            f"{self.reason}",
            f"Bias and noise are squares, relative to the squared gradient, over {self.steps} "
            f"items; {self.reference}",
            f"{self.state} {facts.params:,} params, {facts.coordinates} coordinates of the state; "
            f"{self.backend}; {self.took:.0f} s.",
        ]
        if self.left_out:
            each = "; ".join(f"{name} ({why})" for name, why in self.left_out.items())
            lines.append(f"Not measured: {each}.")
        return lines

    def document(self) -> dict[str, Any]:
        """Return everything in numbers, strings, lists and dicts; ``None`` stands for NaN."""
        document = asdict(self)
        chosen = self.recommended
        document["recommended"] = None if chosen is None else chosen.name
        document["rows"] = [
            {key: _known(value) for key, value in asdict(row).items()} for row in self.rows
        ]
        return document


def cells(row: Row) -> tuple[str, ...]:
    """Return a row in words."""
    low, high = (f"{1e6 * value:.3g}" for value in (row.seconds_low, row.seconds_high))
    return (
        row.spelling,
        row.guarantee,
        with_error(row.bias, row.bias_error),
        with_error(row.noise, row.noise_error),
        "-" if math.isnan(row.seconds) else f"{1e6 * row.seconds:.3g}",
        "-" if math.isnan(row.seconds_low) else f"{low} to {high}",
        f"{row.memory:.2g}",
    )


def with_error(value: float, error: float) -> str:
    """Return a number with its standard error, in as many digits as it has."""
    if math.isnan(value):
        return "-"
    if abs(value) < TINY and not error > TINY:
        return "0"
    if not error > 1e-3 * abs(value):
        return f"{value:.3g}"
    return f"{value:.2g} ± {error:.1g}"


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
