"""The metrics of a run as columns of numbers."""

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
# Suffixes of the ends of a band about a monitor.
LOW, HIGH = "_low", "_high"

Numbers = np.ndarray[Any, np.dtype[np.float64]]


class Column(NamedTuple):
    """Numbers logged under one name.

    Attributes:
        items: Number of items of the stream seen at each of them.
        values: Numbers.
    """

    items: Numbers
    values: Numbers


class Event(NamedTuple):
    """Event of a run, such as a skipped step."""

    items: float
    kind: str


@dataclass(frozen=True)
class RunCurve:
    """Curves of a run.

    Attributes:
        path: Folder of the run.
        status: Status of the run; empty if it cannot be read.
        columns: Every logged number by name, such as ``"loss"`` and ``"recent"``.
        events: Events, in the order of their lines.
    """

    path: Path
    status: dict[str, Any]
    columns: dict[str, Column]
    events: list[Event]

    @property
    def name(self) -> str:
        """Return the name of the folder."""
        return self.path.resolve().name

    @property
    def monitors(self) -> list[str]:
        """Names of the numbers other than losses."""
        return sorted(set(self.columns) - set(_OWN))

    @property
    def entropy_rate(self) -> float | None:
        """Smallest mean loss that any predictor can reach, if known."""
        rate = self.status.get("entropy_rate")
        return float(rate) if isinstance(rate, (int, float)) and np.isfinite(rate) else None

    def column(self, name: str) -> Column:
        """Return the numbers of a name; an empty column if there are none."""
        return self.columns.get(name, Column(np.zeros(0), np.zeros(0)))


def read_curve(folder: str | os.PathLike[str]) -> RunCurve:
    """Read the curves of a run.

    Args:
        folder: Folder of the run, which may be at work.

    Raises:
        CheckpointError: If there are no metrics, or they are damaged.
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
    """Return a function from a record to its items, interpolated if it names its step only."""
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
