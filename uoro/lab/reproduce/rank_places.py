"""What rank-noise measured: relative variances, by network, stage of training, rank, reduction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from uoro.lab.jobs import Done, Results
from uoro.lab.reproduce.claims import Verdict, judge

RANKS = (1, 2, 3, 4, 8, 16)
OF_PAIRS = (1, 2, 4, 8, 16)
"""Ranks of pairs; Kronecker sums are measured at each of `RANKS` up to 4."""
KRONECKER = "Kronecker"
REDUCTIONS = {
    "independent": "",
    "optimal": ",reduction=optimal",
    "optimal, scaled": ",reduction=optimal,scaling=rows",
    KRONECKER: "",
}
"""Options of the estimator, after the rank."""


class Place(NamedTuple):
    """A network at a stage of training, with relative variances by reduction and rank."""

    run: str
    gated: bool
    units: int
    stage: int
    values: dict[tuple[str, int], tuple[float, float]]


class Ratio(NamedTuple):
    """Ratio of the variances of two reductions, and half the width of the interval."""

    value: float
    half: float
    rank: int
    trained: bool
    gated: bool


def spell_estimator(rank: int, reduction: str) -> str:
    """Return the spelling of an estimator."""
    if reduction == KRONECKER:
        return f"kron:{rank}"
    return f"uoro:rank={rank}{REDUCTIONS[reduction]}"


def spellings(ranks: Sequence[int]) -> list[str]:
    """Return the spellings of all estimators that are measured at some ranks."""
    return [
        spell_estimator(rank, each)
        for rank in ranks
        for each in REDUCTIONS
        if (rank <= 4 if each == KRONECKER else rank in OF_PAIRS)
    ]


def places_of(results: Results) -> Iterator[Place]:
    """Return networks and stages, tanh networks first, then by number of units."""
    for run, done in sorted(results.items(), key=_order):
        for number, stage in enumerate(done.result["stages"]):
            network = done.settings["network"]
            values = _values(done, number)
            yield Place(run, network["cell"] != "rnn", network["units"], stage, values)


def _order(item: tuple[str, Done]) -> tuple[bool, int, int]:
    settings = item[1].settings
    return settings["network"]["cell"] != "rnn", settings["network"]["units"], settings["seed"]


def _values(done: Done, number: int) -> dict[tuple[str, int], tuple[float, float]]:
    found = {}
    for rank in RANKS:
        for reduction in REDUCTIONS:
            name = spell_estimator(rank, reduction)
            if name in done.result["relative_variance"]:
                found[reduction, rank] = (
                    done.result["relative_variance"][name][number],
                    1.96 * done.result["standard_error"][name][number],
                )
    return found


def ratios_of(places: list[Place], one: str, other: str) -> list[Ratio]:
    """Divide one reduction by another at every place and rank > 1 below the number of units."""
    found = []
    for place in places:
        for rank in RANKS[1:]:
            if rank < place.units and {(one, rank), (other, rank)} <= place.values.keys():
                (mine, my_half), (plain, half) = place.values[one, rank], place.values[other, rank]
                ratio = mine / plain
                error = ratio * math.hypot(my_half / mine if mine else 0.0, half / plain)
                found.append(Ratio(ratio, error, rank, place.stage > 0, place.gated))
    return found


def judge_below(ratios: list[Ratio]) -> Verdict:
    """Return whether all intervals are below 1."""
    return judge(
        bool(ratios) and all(one.value + one.half < 1.0 for one in ratios),
        any(one.value - one.half > 1.0 for one in ratios),
    )


def spell(ratios: list[Ratio]) -> str:
    """Return the ratios by rank, in words."""
    if not ratios:
        return "None was measured."
    by_rank = {one.rank: [each.value for each in ratios if each.rank == one.rank] for one in ratios}
    spelled = "; ".join(
        f"rank {rank} {min(each):.2g} to {max(each):.2g}" for rank, each in sorted(by_rank.items())
    )
    below = sum(one.value + one.half < 1.0 for one in ratios)
    above = sum(one.value - one.half > 1.0 for one in ratios)
    return (
        f"{spelled}, where the rank is below the number of units. Of {len(ratios)} intervals "
        f"{below} are below 1, {above} above, and the others contain it."
    )
