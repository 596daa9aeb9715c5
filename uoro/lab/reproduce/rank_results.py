"""What the runs of `rank_learning.py` came to: losses by characters, and what a character takes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from uoro.lab.jobs import Results
from uoro.lab.reproduce.learning import BLOCKS
from uoro.lab.reproduce.reading import Replica, replicas

SETUPS = (("anbn", "gru"), ("anbn", "lstm"), ("brackets", "gru"), ("brackets", "lstm"))
TITLES = {"anbn": "aⁿbⁿ(1, 32)", "brackets": "distant brackets (1, 5, 10)"}

# Losses are averaged over that many characters, as those of fewer are noise.
SMOOTH = 50_000

Key: TypeAlias = tuple[str, str, str]
"""Task, cell, estimator."""
Groups: TypeAlias = dict[Key, list[Replica]]
Seconds: TypeAlias = dict[Key, list[float]]
"""What a character takes, a time for each round."""


def joint(rank: int) -> str:
    """Spell an estimator of joint pairs."""
    return f"uoro:rank={rank},reduction=optimal"


def scaled(rank: int) -> str:
    """Spell an estimator of joint pairs whose projections are scaled."""
    return f"{joint(rank)},scaling=rows"


def groups_of(results: Results) -> Groups:
    """Give the runs of all seeds, by task, cell and estimator."""
    return replicas(results, lambda s: (s["task"], s["network"]["cell"], s["estimator"]))


def short(estimator: str) -> str:
    """Spell an estimator for a table."""
    for option, word in (
        ("uoro:", ""),
        (",reduction=optimal", ", joint"),
        (",scaling=rows", ", scaled"),
    ):
        estimator = estimator.replace(option, word)
    return estimator


def seconds_of(results: Results) -> Seconds:
    """Give what a character takes, a time for each round, by task, cell and estimator."""
    return {
        (done.settings["task"], done.settings["network"]["cell"], estimator): times
        for done in results.values()
        for estimator, times in done.result.get("seconds_per_item", {}).items()
    }


def smoothed(group: list[Replica]) -> tuple[list[float], list[list[float]]]:
    """Give the means over some blocks, and where they end."""
    items = group[0].settings["items"]
    width = max(1, round(SMOOTH * BLOCKS / items))
    blocks = [one.values("blocks") for one in group]
    count = min(map(len, blocks))
    ends = [items * (i + 1) / count for i in range(count)]
    means = [
        [float(np.mean(each[max(0, i + 1 - width) : i + 1])) for i in range(count)]
        for each in blocks
    ]
    return ends, means


def loss_at(group: list[Replica], items: int) -> list[float]:
    """Give every seed's loss over the characters up to some number; none if there are fewer."""
    ends, means = smoothed(group)
    reached = [i for i, end in enumerate(ends) if end >= items * (1 - 1e-9)]
    return [each[reached[0]] for each in means] if reached else []
