"""What a run's files say, as columns of numbers to draw."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uoro.errors import CheckpointError
from uoro.training.log import read_metrics
from uoro.training.status import read_status

METRICS = "metrics.jsonl"
_OWN = ("step", "items", "loss", "recent", "cumulated", "seconds", "event")
# Ends of the band about the monitor of that name.
LOW, HIGH = "_low", "_high"

Numbers = np.ndarray[Any, np.dtype[np.float64]]


class Column(NamedTuple):
    """What was written under one name.

    Attributes:
        items: How many items of the stream had been seen, each time it was written.
        values: What was written.
    """

    items: Numbers
    values: Numbers


class Event(NamedTuple):
    """Something that happened to a run, such as a step that was skipped."""

    items: float
    kind: str


@dataclass(frozen=True)
class RunCurve:
    """A run's curves.

    Attributes:
        path: Its folder.
        status: Its status; empty if it has none that can be read.
        columns: Every number that was written, by name; ``"loss"`` and ``"recent"`` among them.
        events: What happened, in the order of its lines.
    """

    path: Path
    status: dict[str, Any]
    columns: dict[str, Column]
    events: list[Event]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.resolve().name

    @property
    def monitors(self) -> list[str]:
        """Names of the numbers beside the loss."""
        return sorted(set(self.columns) - set(_OWN))

    @property
    def entropy_rate(self) -> float | None:
        """The least mean loss that any predictor can reach, if it is known."""
        rate = self.status.get("entropy_rate")
        return float(rate) if isinstance(rate, (int, float)) and np.isfinite(rate) else None

    def column(self, name: str) -> Column:
        """Give the numbers of that name; none if it was never written."""
        return self.columns.get(name, Column(np.zeros(0), np.zeros(0)))


def read_curve(folder: str | os.PathLike[str]) -> RunCurve:
    """Read a run's curves.

    Args:
        folder: The run's folder; the run may be at work.

    Raises:
        CheckpointError: If it has no metrics, or they are damaged.
    """
    folder = Path(folder)
    records = read_metrics(folder / METRICS)
    try:
        status = read_status(folder)
    except CheckpointError:
        status = {}
    place = _places(records)
    seen: dict[str, tuple[list[float], list[float]]] = {}
    events = []
    for record in records:
        items = place(record)
        if "event" in record:
            events.append(Event(items, str(record["event"])))
            continue
        for name, value in record.items():
            if (number := _number(value)) is not None:
                places, values = seen.setdefault(name, ([], []))
                places.append(items)
                values.append(number)
    columns = {
        name: Column(np.array(places), np.array(values)) for name, (places, values) in seen.items()
    }
    return RunCurve(folder, status, columns, events)


def _places(records: list[dict[str, Any]]) -> Callable[[dict[str, Any]], float]:
    """Say where a record stands; one that names its step alone, by those that name both."""
    both = [(_number(record.get("step")), _number(record.get("items"))) for record in records]
    known = sorted((s, i) for s, i in both if s is not None and i is not None)
    steps, items = [step for step, _ in known], [item for _, item in known]

    def place(record: dict[str, Any]) -> float:
        if (found := _number(record.get("items"))) is not None:
            return found
        step = _number(record.get("step")) or 0.0
        return float(np.interp(step, steps, items)) if known else step

    return place


def _number(value: Any) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
