"""Results of learning runs, sorted by what was run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from uoro.lab.jobs import JobSettings, Results


class Replica(NamedTuple):
    """One seed of a learning run.

    Attributes:
        settings: Of the run.
        seed: Which of its seeds.
        record: As `uoro.lab.reproduce.learning.Trace.record` gives it.
        entropy_rate: Of the task, or ``None``.
    """

    settings: JobSettings
    seed: int
    record: dict[str, Any]
    entropy_rate: float | None

    def value(self, name: str) -> float:
        """Give a number of the record; infinity for one that is not a number."""
        value = float(self.record[name])
        return math.inf if math.isnan(value) else value

    def values(self, name: str) -> list[float]:
        """Give a curve of the record, likewise."""
        return [math.inf if math.isnan(value) else value for value in map(float, self.record[name])]


def replicas(results: Results, by: Callable[[JobSettings], Any]) -> dict[Any, list[Replica]]:
    """Group the seeds of all learning runs by something in their settings, in order of seeds."""
    groups: dict[Any, dict[int, Replica]] = defaultdict(dict)
    for done in results.values():
        if "replicas" not in done.result:
            continue
        for seed, record in zip(done.settings["seeds"], done.result["replicas"], strict=True):
            replica = Replica(done.settings, seed, record, done.result["entropy_rate"])
            groups[by(done.settings)].setdefault(seed, replica)
    return {key: [group[seed] for seed in sorted(group)] for key, group in groups.items()}


def mean_and_spread(values: list[float]) -> str:
    """Say the mean, and the least and the most where there are several."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4f}"
    return f"{mean:.4f} ({min(values):.4f} to {max(values):.4f}, {len(values)} seeds)"
