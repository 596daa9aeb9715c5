"""Beyond the paper: what a rank is worth, by characters and by seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from uoro.reproduction.claims import Claim, judge
from uoro.reproduction.learning import BLOCKS, learning_run
from uoro.reproduction.plot import curves, figure, level
from uoro.reproduction.reading import Replica, mean_and_spread, replicas
from uoro.reproduction.run import Plan, Results, Run
from uoro.tasks import AnBn, DistantBrackets

SETUPS = (("anbn", "gru"), ("anbn", "lstm"), ("brackets", "gru"), ("brackets", "lstm"))
TASKS: dict[str, dict[str, Any]] = {
    "anbn": {"k": 1, "l": 32, "rate": 1e-3, "decay": 0.03},
    "brackets": {"s": 1, "k": 5, "a": 10, "rate": 1e-3, "decay": 0.015},
}
TITLES = {"anbn": "aⁿbⁿ(1, 32)", "brackets": "distant brackets (1, 5, 10)"}


def joint(rank: int) -> str:
    """Spell an estimator of joint pairs."""
    return f"uoro:rank={rank},reduction=optimal"


def scaled(rank: int) -> str:
    """Spell an estimator of joint pairs whose projections are scaled."""
    return f"{joint(rank)},scaling=rows"


# Microseconds a character with the GRU of 64 units, one core, JAX; with the LSTM about double.
COST = {
    "uoro": 13.0,
    "uoro:rank=4": 25.0,
    joint(2): 38.0,
    joint(4): 65.0,
    joint(8): 150.0,
    joint(16): 450.0,
    scaled(4): 90.0,
    scaled(8): 175.0,
    "tbptt:1": 9.0,
    "tbptt:4": 7.0,
    "tbptt:16": 5.0,
}
# How many characters, in units of a million: on aⁿbⁿ with the GRU, and elsewhere.
LENGTHS = {
    "uoro": (10.0, 2.0),
    "uoro:rank=4": (2.0, 0.5),
    joint(2): (2.0, 0.5),
    joint(4): (2.0, 0.6),
    joint(8): (2.0, 0.3),
    joint(16): (0.5, 0.1),
    scaled(4): (2.0, 0.6),
    scaled(8): (0.5, 0.3),
    "tbptt:1": (2.0, 1.0),
    "tbptt:4": (2.0, 1.0),
    "tbptt:16": (2.0, 1.0),
}
# With the LSTM, of which a character takes twice as long, only these learn.
WITH_LSTM = ("uoro", joint(4), joint(8), joint(16), scaled(4), scaled(8), "tbptt:16")
# The best of truncated BPTT, to hold the best of ours against.
BEST = ("anbn", "lstm", "tbptt:16")
BEST_LENGTH = 10_000_000
NEAR = 0.01
SOON = 500_000
THIRD = 1 / 3
# Losses are averaged over that many characters, as those of fewer are noise.
SMOOTH = 50_000
MARKS = (100_000, 500_000, 1_000_000)

# Held against rank 1, by how they are spelled in claims.
LEADS = {joint(4): "joint rank 4", scaled(4): "joint rank 4, scaled,"}
# What each is listed with.
RANKS = {joint(4): [joint(rank) for rank in (2, 4, 8, 16)], scaled(4): [scaled(4), scaled(8)]}
SOONER = "By characters: {} has within 5·10⁵ the loss that rank 1 has after 10⁷."
FASTER = "By seconds: {} takes until then at most a third of the time of rank 1."
PAYS = "A higher rank pays in seconds: {} gets ahead of rank 1 on every task, and stays there."
FLOOR = "Joint rank 8 or 16 comes within 0.01 bit of 16-truncated BPTT with the LSTM."

Key: TypeAlias = tuple[str, str, str]
"""Task, cell, estimator."""
Groups: TypeAlias = dict[Key, list[Replica]]
Seconds: TypeAlias = dict[Key, list[float]]
"""What a character takes, a time for each round."""


class RankLearning:
    """Loss by rank, against characters and against seconds."""

    name = "rank-learning"
    title = "Learning by rank, in characters and in seconds (beyond the paper)"
    paper = (
        "Beyond the paper, in which 4 independent pairs divide the variance by 4. Here k pairs are "
        "reduced together (Benzing et al., arXiv:1902.03993); scaled ones with a diagonal Q for "
        "the projections (Cooijmans & Martens, arXiv:1902.02405)."
    )
    ours = (
        "The networks, optimizers and schedules of figures 2b and 4, with as many characters as "
        "each can have in minutes. Losses are means over the last 50,000 characters. Seconds are "
        "characters times the median of what one takes, of estimators that took turns, compiled; "
        "compiling is not among them."
    )

    def runs(self, plan: Plan) -> list[Run]:
        """One for each task, cell, estimator and seed, and one to time them all."""
        found = []
        for task, cell in SETUPS if plan.paper else SETUPS[:1]:
            found.append(_timing(plan, task, cell))
            for seed in range(plan.seeds or (3 if plan.paper else 1)):
                for estimator, millions in _lengths(plan, task, cell).items():
                    if cell == "lstm" and estimator not in WITH_LSTM:
                        continue
                    items = plan.length(paper=int(millions * 1e6), quick=60_000, eager=1_000)
                    if plan.paper and (task, cell, estimator) == BEST:
                        items = BEST_LENGTH
                    found.append(
                        learning_run(
                            f"{task} {cell} {estimator} seed {seed}",
                            common=plan.common(),
                            task=task,
                            arguments=TASKS[task],
                            network={"cell": cell, "units": 64, "layers": 1},
                            estimator=estimator,
                            items=items,
                            seeds=[seed],
                            window=min(100_000, items // 10),
                            microseconds=COST[estimator] * (2.0 if cell == "lstm" else 1.0),
                        )
                    )
        return found

    def claims(self, results: Results) -> list[Claim]:
        """How much sooner, how much faster, how low."""
        groups, seconds = _groups(results), _seconds(results)
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
        ]

    def draw(self, results: Results, path: Path) -> None:
        """Draw losses against characters above, and against seconds below."""
        groups, seconds = _groups(results), _seconds(results)
        setups = [each for each in SETUPS if any(key[:2] == each for key in groups)]
        with figure(path, columns=max(1, len(setups)), rows=2, share=False) as panels:
            for column, (task, cell) in enumerate(setups):
                for row, unit in enumerate(("characters", "seconds")):
                    axes = panels[row * len(setups) + column]
                    for style, estimator in enumerate(LENGTHS):
                        group = groups.get((task, cell, estimator), [])
                        times = seconds.get((task, cell, estimator), [])
                        if group and (times or unit == "characters"):
                            items, losses = _smoothed(group)
                            factor = float(np.median(times)) if unit == "seconds" else 1.0
                            at = [factor * item for item in items]
                            label = _short(estimator)
                            curves(axes, at, losses, label=label, style=style)
                    _finish(axes, task, unit)
                    if row == 0:
                        axes.set_title(f"{TITLES[task]}, {cell.upper()}")
                panels[column].set_ylabel("bits per character" if column == 0 else "")
                panels[len(setups) + column].set_ylabel("bits per character" if column == 0 else "")
            panels[0].legend(frameon=False, fontsize=9)

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Give what a character costs, and the loss at some of them and at the end."""
        groups, seconds = _groups(results), _seconds(results)
        if not groups:
            return []
        rows = [["task", "cell", "estimator", "µs", *(f"at {m:,}" for m in MARKS), "at the end"]]
        for task, cell in SETUPS:
            for estimator in LENGTHS:
                group = groups.get((task, cell, estimator), [])
                if not group:
                    continue
                marks = [_at(group, mark) for mark in MARKS]
                end = mean_and_spread([one.value("last") for one in group])
                rows.append(
                    [
                        task,
                        cell.upper(),
                        _short(estimator),
                        _microseconds(seconds.get((task, cell, estimator), [])),
                        *(f"{np.mean(each):.4f}" if each else "" for each in marks),
                        f"{end} of {group[0].settings['items']:,}",
                    ]
                )
        return rows


def _lengths(plan: Plan, task: str, cell: str) -> dict[str, float]:
    """Give the estimators of a task and cell, and how many millions of characters each has."""
    slow = () if plan.paper else (joint(8), joint(16), scaled(8))
    column = 0 if (task, cell) == SETUPS[0] else 1
    return {name: each[column] for name, each in LENGTHS.items() if name not in slow}


def _timing(plan: Plan, task: str, cell: str) -> Run:
    settings = plan.common() | {
        "task": task,
        "arguments": TASKS[task],
        "network": {"cell": cell, "units": 64, "layers": 1},
        "estimators": list(_lengths(plan, task, cell)),
        "rounds": 6 if plan.paper else 3,
    }
    return Run(f"{task} {cell} timing", "time by estimator", settings, 120.0)


def _groups(results: Results) -> Groups:
    return replicas(results, lambda s: (s["task"], s["network"]["cell"], s["estimator"]))


def _short(estimator: str) -> str:
    for spelled, short in (
        ("uoro:", ""),
        (",reduction=optimal", ", joint"),
        (",scaling=rows", ", scaled"),
    ):
        estimator = estimator.replace(spelled, short)
    return estimator


def _seconds(results: Results) -> Seconds:
    """Give what a character takes, a time for each round, by task, cell and estimator."""
    return {
        (done.settings["task"], done.settings["network"]["cell"], estimator): times
        for done in results.values()
        for estimator, times in done.result.get("seconds_per_item", {}).items()
    }


def _microseconds(times: list[float]) -> str:
    return f"{1e6 * float(np.median(times)):.3g}" if times else ""


def _smoothed(group: list[Replica]) -> tuple[list[float], list[list[float]]]:
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


def _at(group: list[Replica], items: int) -> list[float]:
    """Give every seed's loss over the characters up to some number; none if there are fewer."""
    ends, means = _smoothed(group)
    reached = [i for i, end in enumerate(ends) if end >= items * (1 - 1e-9)]
    return [each[reached[0]] for each in means] if reached else []


def _first(group: list[Replica], loss: float) -> list[float]:
    """Give, for every seed, after how many characters the loss is below a value."""
    ends, means = _smoothed(group)
    width = round(SMOOTH * BLOCKS / group[0].settings["items"])
    return [
        next(
            (end for end, value in list(zip(ends, each, strict=True))[width:] if value <= loss),
            math.inf,
        )
        for each in means
    ]


def _sooner(lead: str, groups: Groups, seconds: Seconds) -> list[Claim]:
    """Tell after how many characters, and how much of the time, an estimator has caught up."""
    setup = SETUPS[0]
    names = [claim.format(LEADS[lead]) for claim in (SOONER, FASTER)]
    plain, mine = (groups.get((*setup, each), []) for each in ("uoro", lead))
    times = [seconds.get((*setup, each), []) for each in ("uoro", lead)]
    soon = _at(mine, SOON) if mine else []
    if not plain or not soon or not all(times):
        return [Claim(each, "It was not run.", judge(False, False)) for each in names]
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
    """Spell numbers; infinity is what was never reached."""
    return ", ".join(f"{each:{form}}" if math.isfinite(each) else "never" for each in numbers)


def _pays(lead: str, groups: Groups, seconds: Seconds) -> Claim:
    """Tell from which second on each rank is ahead of rank 1 for as long as both were run."""
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
        each = ", ".join(f"{_short(name)} {_spell_second(at)}" for name, at in ahead.items())
        said.append(f"{TITLES[task]}, {cell.upper()}: {each}")
    if not found:
        return Claim(sentence, "It was not run.", judge(False, False))
    return Claim(
        sentence,
        "Second from which the median loss is below that of rank 1, to the end of the shorter one. "
        f"{'; '.join(said)}. It holds if there is one on every task and cell.",
        judge(all(map(math.isfinite, found)), not all(map(math.isfinite, found))),
    )


def _median_curve(group: list[Replica], times: list[float]) -> tuple[Any, Any]:
    ends, losses = _smoothed(group)
    return np.array(ends) * float(np.median(times)), np.median(losses, axis=0)


def _ahead_from(mine: tuple[Any, Any], theirs: tuple[Any, Any]) -> float:
    """Give the time from which a curve stays below another; infinity if it ends above it."""
    common = mine[0][(mine[0] >= theirs[0][0]) & (mine[0] <= theirs[0][-1])]
    other = np.interp(np.log(common), np.log(theirs[0]), theirs[1])
    ahead = mine[1][np.searchsorted(mine[0], common)] < other
    if not len(common) or not ahead[-1]:
        return math.inf
    behind = np.flatnonzero(~ahead)
    return float(common[behind[-1] + 1 if len(behind) else 0])


def _spell_second(second: float) -> str:
    return f"from {second:.2g} s on" if math.isfinite(second) else "not ahead at the end"


def _floor(best: list[Replica], high: dict[tuple[str, str], list[Replica]]) -> Claim:
    if not best or not high:
        return Claim(FLOOR, "It was not run.", judge(False, False))
    whole = all(one.settings["items"] >= BEST_LENGTH for one in best)
    floor = [one.value("last") for one in best]
    line = math.fsum(floor) / len(floor) + NEAR
    ends = {key: [one.value("last") for one in group] for key, group in high.items()}
    said = "; ".join(
        f"{_short(estimator)} with the {cell.upper()} {mean_and_spread(each)} after "
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


def _finish(axes: Any, task: str, unit: str) -> None:
    if task == "anbn":
        source = AnBn(1, 32)
        low, high, blind = 0.138, 0.4, source.entropy_rate_without_count
    else:
        brackets = DistantBrackets(1, 5, 10)
        low, high, blind = 1.6, 2.6, brackets.entropy_rate_without_memory
        source = brackets  # type: ignore[assignment]  # both have an entropy rate
    level(axes, source.entropy_rate, "entropy rate")
    level(axes, blind, "without memory", dashes=(0, (8, 3)))
    axes.set(xscale="log", yscale="log", xlabel=unit)
    axes.set_ylim(low, high)
    if unit == "characters":
        axes.set_xlim(left=10_000)
    ticks = (0.14, 0.16, 0.2, 0.25, 0.3, 0.4) if task == "anbn" else (1.6, 1.8, 2.0, 2.2, 2.4)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
