"""Results of learning runs, grouped by settings."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from uoro.lab.jobs import JobSettings, Results


class Replica(NamedTuple):
    """One seed of a learning run.

    Attributes:
        settings: Settings of the run.
        seed: Seed.
        record: Record, from `uoro.lab.reproduce.learning.Trace.record`.
        entropy_rate: Entropy rate of the task, or ``None``.
    """

    settings: JobSettings
    seed: int
    record: dict[str, Any]
    entropy_rate: float | None

    def value(self, name: str) -> float:
        """Return a number of the record, infinity in the place of NaN."""
        value = float(self.record[name])
        return math.inf if math.isnan(value) else value

    def values(self, name: str) -> list[float]:
        """Return a curve of the record, infinity in the place of NaN."""
        return [math.inf if math.isnan(value) else value for value in map(float, self.record[name])]


def replicas(results: Results, by: Callable[[JobSettings], Any]) -> dict[Any, list[Replica]]:
    """Return the replicas of all learning runs, grouped by a function of their settings."""
    groups: dict[Any, dict[int, Replica]] = defaultdict(dict)
    for done in results.values():
        if "replicas" not in done.result:
            continue
        for seed, record in zip(done.settings["seeds"], done.result["replicas"], strict=True):
            replica = Replica(done.settings, seed, record, done.result["entropy_rate"])
            groups[by(done.settings)].setdefault(seed, replica)
    return {key: [group[seed] for seed in sorted(group)] for key, group in groups.items()}


def mean_and_spread(values: list[float]) -> str:
    """Return the mean, and the range if there are several values, in words."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4f}"
    return f"{mean:.4f} ({min(values):.4f} to {max(values):.4f}, {len(values)} seeds)"
