"""The claims on the runs of `rank_learning.py`: sooner, faster, and as low."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from uoro.lab.jobs import Results
from uoro.lab.reproduce.claims import Claim, judge, not_run
from uoro.lab.reproduce.learning import BLOCKS
from uoro.lab.reproduce.rank_results import (
    SETUPS,
    SMOOTH,
    TITLES,
    Groups,
    Seconds,
    groups_of,
    joint,
    loss_at,
    scaled,
    seconds_of,
    short,
    smoothed,
)
from uoro.lab.reproduce.reading import Replica, mean_and_spread
from uoro.tasks import AnBn

# The best of truncated BPTT, to hold the best of ours against.
BEST = ("anbn", "lstm", "tbptt:16")
BEST_LENGTH = 10_000_000
NEAR = 0.01
SOON = 500_000
THIRD = 1 / 3

# Held against rank 1, by how they are spelled in claims.
LEADS = {joint(4): "joint rank 4", scaled(4): "joint rank 4, scaled,"}
# What each is listed with.
RANKS = {joint(4): [joint(rank) for rank in (2, 4, 8, 16)], scaled(4): [scaled(4), scaled(8)]}
SOONER = "By characters: {} has within 5·10⁵ the loss that rank 1 has after 10⁷."
FASTER = "By seconds: {} takes until then at most a third of the time of rank 1."
PAYS = "A higher rank pays in seconds: {} gets ahead of rank 1 on every task, and stays there."
KRONECKER_LINE = 0.165
NEARLY = "Kronecker rank 2 is below 0.165 bit on aⁿbⁿ, GRU, after 5·10⁵ characters."
FLOOR = "Joint rank 8 or 16 comes within 0.01 bit of 16-truncated BPTT with the LSTM."


def judge_ranks(results: Results) -> list[Claim]:
    """Judge how much sooner, how much faster, how low."""
    groups, seconds = groups_of(results), seconds_of(results)
    best = groups.get(BEST, [])
    high = {
        (cell, estimator): groups[task, cell, estimator]
        for task, cell in SETUPS[:2]
        for estimator in (joint(8), scaled(8), joint(16))
        if (task, cell, estimator) in groups
    }
    return [
        *(claim for lead in LEADS for claim in _sooner(lead, groups, seconds)),
        *(_pays(lead, groups, seconds) for lead in LEADS),
        _floor(best, high),
        *_nearly_exact(groups),
    ]


def _first(group: list[Replica], loss: float) -> list[float]:
    """Return, for every seed, the number of characters until the loss is below a value."""
    ends, means = smoothed(group)
    width = round(SMOOTH * BLOCKS / group[0].settings["items"])
    return [
        next(
            (end for end, value in list(zip(ends, each, strict=True))[width:] if value <= loss),
            math.inf,
        )
        for each in means
    ]


def _sooner(lead: str, groups: Groups, seconds: Seconds) -> list[Claim]:
    """Judge after how many characters, and how much time, an estimator has caught up."""
    setup = SETUPS[0]
    names = [claim.format(LEADS[lead]) for claim in (SOONER, FASTER)]
    plain, mine = (groups.get((*setup, each), []) for each in ("uoro", lead))
    times = [seconds.get((*setup, each), []) for each in ("uoro", lead)]
    soon = loss_at(mine, SOON) if mine else []
    if not plain or not soon or not all(times):
        return not_run(*names)
    ends = [one.value("last") for one in plain]
    length = plain[0].settings["items"]
    whole = length >= 10_000_000
    first = _first(mine, math.fsum(ends) / len(ends))
    share = float(np.median(np.array(times[1]) / np.array(times[0])))
    ratios = [share * each / length for each in first]
    return [
        Claim(
            names[0],
            f"Rank 1 ends at {mean_and_spread(ends)}. {_capital(LEADS[lead])} has "
            f"{mean_and_spread(soon)} after {SOON:,}, and is below the mean of the former after "
            f"{_list(first, ',.0f')}. It holds if every seed is by then.",
            judge(whole and max(first) <= SOON, whole and max(first) > SOON),
        ),
        Claim(
            names[1],
            f"A character takes {share:.1f} times as long as with rank 1. To that loss it takes "
            f"{_list(ratios, '.2f')} of the time.",
            judge(whole and max(ratios) <= THIRD, whole and max(ratios) > THIRD),
        ),
    ]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _list(numbers: Sequence[float], form: str) -> str:
    """Return numbers in words; infinity stands for never."""
    return ", ".join(f"{each:{form}}" if math.isfinite(each) else "never" for each in numbers)


def _pays(lead: str, groups: Groups, seconds: Seconds) -> Claim:
    """Judge from which second on each rank stays ahead of rank 1."""
    sentence = PAYS.format(LEADS[lead])
    said, found = list[str](), list[float]()
    for task, cell in SETUPS:
        curves = {
            name: _median_curve(groups[task, cell, name], seconds[task, cell, name])
            for name in ("uoro", *RANKS[lead])
            if groups.get((task, cell, name)) and seconds.get((task, cell, name))
        }
        if "uoro" not in curves or lead not in curves:
            continue
        plain = curves.pop("uoro")
        ahead = {name: _ahead_from(curve, plain) for name, curve in curves.items()}
        found.append(ahead[lead])
        each = ", ".join(f"{short(name)} {_spell_second(at)}" for name, at in ahead.items())
        said.append(f"{TITLES[task]}, {cell.upper()}: {each}")
    if not found:
        return not_run(sentence)[0]
    return Claim(
        sentence,
        "Second from which the median loss is below that of rank 1, to the end of the shorter one. "
        f"{'; '.join(said)}. It holds if there is one on every task and cell.",
        judge(all(map(math.isfinite, found)), not all(map(math.isfinite, found))),
    )


def _median_curve(group: list[Replica], times: list[float]) -> tuple[Any, Any]:
    ends, losses = smoothed(group)
    return np.array(ends) * float(np.median(times)), np.median(losses, axis=0)


def _ahead_from(mine: tuple[Any, Any], theirs: tuple[Any, Any]) -> float:
    """Return the time from which a curve stays below another; infinity if the curve ends above."""
    common = mine[0][(mine[0] >= theirs[0][0]) & (mine[0] <= theirs[0][-1])]
    other = np.interp(np.log(common), np.log(theirs[0]), theirs[1])
    ahead = mine[1][np.searchsorted(mine[0], common)] < other
    if not len(common) or not ahead[-1]:
        return math.inf
    behind = np.flatnonzero(~ahead)
    return float(common[behind[-1] + 1 if len(behind) else 0])


def _spell_second(second: float) -> str:
    return f"from {second:.2g} s on" if math.isfinite(second) else "not ahead at the end"


def _nearly_exact(groups: Groups) -> list[Claim]:
    """Judge how low Kronecker rank 2 is after half a million characters."""
    group = groups.get((*SETUPS[0], "kron:2"), [])
    soon = loss_at(group, SOON) if group else []
    if not soon:
        return []
    mean = math.fsum(soon) / len(soon)
    support = f"{mean_and_spread(soon)} after {SOON:,} characters; {KRONECKER_LINE} is the line."
    return [Claim(NEARLY, support, judge(mean < KRONECKER_LINE, mean > KRONECKER_LINE))]


def _floor(best: list[Replica], high: dict[tuple[str, str], list[Replica]]) -> Claim:
    if not best or not high:
        return not_run(FLOOR)[0]
    whole = all(one.settings["items"] >= BEST_LENGTH for one in best)
    floor = [one.value("last") for one in best]
    line = math.fsum(floor) / len(floor) + NEAR
    ends = {key: [one.value("last") for one in group] for key, group in high.items()}
    said = "; ".join(
        f"{short(estimator)} with the {cell.upper()} {mean_and_spread(each)} after "
        f"{high[cell, estimator][0].settings['items']:,}"
        for (cell, estimator), each in ends.items()
    )
    lowest = min(math.fsum(each) / len(each) for each in ends.values())
    return Claim(
        FLOOR,
        f"16-truncated BPTT with the LSTM: {mean_and_spread(floor)} after {BEST_LENGTH:,}; the "
        f"entropy rate is {AnBn(1, 32).entropy_rate:.4f}. {said}. It holds if the mean of one of "
        f"them is below {line:.4f}.",
        judge(whole and lowest <= line, whole and lowest > line),
    )
