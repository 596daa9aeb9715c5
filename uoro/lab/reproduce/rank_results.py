"""Results of `rank_learning.py`: losses by characters, and the time of a character."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from uoro.lab.jobs import Results
from uoro.lab.reproduce.learning import BLOCKS
from uoro.lab.reproduce.reading import Replica, replicas

SETUPS = (("anbn", "gru"), ("anbn", "lstm"), ("brackets", "gru"), ("brackets", "lstm"))
TITLES = {"anbn": "aⁿbⁿ(1, 32)", "brackets": "distant brackets (1, 5, 10)"}

# Losses are averaged over this number of characters; means over fewer are noise.
SMOOTH = 50_000

Key: TypeAlias = tuple[str, str, str]
"""Task, cell, estimator."""
Groups: TypeAlias = dict[Key, list[Replica]]
Seconds: TypeAlias = dict[Key, list[float]]
"""Seconds per character, one number for each round."""


def joint(rank: int) -> str:
    """Return the spelling of joint pairs."""
    return f"uoro:rank={rank},reduction=optimal"


def scaled(rank: int) -> str:
    """Return the spelling of joint pairs with scaled projections."""
    return f"{joint(rank)},scaling=rows"


def groups_of(results: Results) -> Groups:
    """Return the runs of all seeds, by task, cell and estimator."""
    return replicas(results, lambda s: (s["task"], s["network"]["cell"], s["estimator"]))


def short(estimator: str) -> str:
    """Return the name of an estimator in a table."""
    for option, word in (
        ("uoro:", ""),
        (",reduction=optimal", ", joint"),
        (",scaling=rows", ", scaled"),
        ("kron:", "Kronecker rank "),
        ("rtrl", "exact RTRL"),
    ):
        estimator = estimator.replace(option, word)
    return estimator


def seconds_of(results: Results) -> Seconds:
    """Return the seconds per character of each round, by task, cell and estimator."""
    return {
        (done.settings["task"], done.settings["network"]["cell"], estimator): times
        for done in results.values()
        for estimator, times in done.result.get("seconds_per_item", {}).items()
    }


def smoothed(group: list[Replica]) -> tuple[list[float], list[list[float]]]:
    """Return the ends of stretches, and the mean losses over the stretches."""
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
    """Return every seed's loss at a number of characters; empty if the runs are shorter."""
    ends, means = smoothed(group)
    reached = [i for i, end in enumerate(ends) if end >= items * (1 - 1e-9)]
    return [each[reached[0]] for each in means] if reached else []
