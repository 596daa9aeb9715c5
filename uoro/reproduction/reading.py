"""Results of learning runs, sorted by what was run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from uoro.reproduction.run import Results, Settings


class Replica(NamedTuple):
    """One seed of a learning run.

    Attributes:
        settings: Of the run.
        seed: Which of its seeds.
        record: As `uoro.reproduction.learning.Trace.record` gives it.
        entropy_rate: Of the task, or ``None``.
    """

    settings: Settings
    seed: int
    record: dict[str, Any]
    entropy_rate: float | None


def replicas(results: Results, by: Callable[[Settings], Any]) -> dict[Any, list[Replica]]:
    """Group the seeds of all learning runs by something in their settings, in order of seeds."""
    groups: dict[Any, list[Replica]] = defaultdict(list)
    for done in results.values():
        if "replicas" not in done.result:
            continue
        for seed, record in zip(done.settings["seeds"], done.result["replicas"], strict=True):
            replica = Replica(done.settings, seed, record, done.result["entropy_rate"])
            groups[by(done.settings)].append(replica)
    return {key: sorted(group, key=lambda one: one.seed) for key, group in groups.items()}


def mean_and_spread(values: list[float]) -> str:
    """Say the mean, and the least and the most where there are several."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4f}"
    return f"{mean:.4f} ({min(values):.4f} to {max(values):.4f}, {len(values)} seeds)"
