"""Beyond the paper: what a rank is worth, by characters and by seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uoro.drawing import curves, figure, level
from uoro.lab.jobs import Job, Results
from uoro.lab.reproduce.claims import Claim
from uoro.lab.reproduce.learning import learning_run
from uoro.lab.reproduce.paper_tasks import TASKS, network
from uoro.lab.reproduce.plan import ReproductionPlan
from uoro.lab.reproduce.rank_claims import BEST, BEST_LENGTH, judge_ranks
from uoro.lab.reproduce.rank_results import (
    SETUPS,
    TITLES,
    groups_of,
    joint,
    loss_at,
    scaled,
    seconds_of,
    short,
    smoothed,
)
from uoro.lab.reproduce.reading import mean_and_spread
from uoro.tasks import AnBn, DistantBrackets

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
    "kron:1": 90.0,
    "kron:2": 130.0,
    "kron:3": 180.0,
    "rtrl": 2000.0,
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
    "kron:1": (0.5, 0.3),
    "kron:2": (2.0, 0.5),
    "kron:3": (0.5, 0.3),
    "rtrl": (0.1, 0.05),
    "tbptt:1": (2.0, 1.0),
    "tbptt:4": (2.0, 1.0),
    "tbptt:16": (2.0, 1.0),
}
# With the LSTM, of which a character takes twice as long, only these learn.
WITH_LSTM = (
    "uoro",
    *(joint(4), joint(8), joint(16)),
    *(scaled(4), scaled(8)),
    *("kron:2", "kron:3", "tbptt:16"),
)
MARKS = (100_000, 500_000, 1_000_000)


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

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        """Return one job for each task, cell, estimator and seed, and one for the times."""
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
                            **TASKS[task],
                            network=network(cell),
                            estimator=estimator,
                            items=items,
                            seeds=[seed],
                            window=min(100_000, items // 10),
                            microseconds=COST[estimator] * (2.0 if cell == "lstm" else 1.0),
                        )
                    )
        return found

    def claims(self, results: Results) -> list[Claim]:
        """Judge how much sooner, how much faster, how low."""
        return judge_ranks(results)

    def draw(self, results: Results, path: Path) -> None:
        """Draw losses against characters above, and against seconds below."""
        groups, seconds = groups_of(results), seconds_of(results)
        setups = [each for each in SETUPS if any(key[:2] == each for key in groups)]
        with figure(path, columns=max(1, len(setups)), rows=2, share=False) as panels:
            for column, (task, cell) in enumerate(setups):
                for row, unit in enumerate(("characters", "seconds")):
                    axes = panels[row * len(setups) + column]
                    for style, estimator in enumerate(LENGTHS):
                        group = groups.get((task, cell, estimator), [])
                        times = seconds.get((task, cell, estimator), [])
                        if group and (times or unit == "characters"):
                            items, losses = smoothed(group)
                            factor = float(np.median(times)) if unit == "seconds" else 1.0
                            at = [factor * item for item in items]
                            label = short(estimator)
                            curves(axes, at, losses, label=label, number=style)
                    _finish(axes, task, unit)
                    if row == 0:
                        axes.set_title(f"{TITLES[task]}, {cell.upper()}")
                panels[column].set_ylabel("bits per character" if column == 0 else "")
                panels[len(setups) + column].set_ylabel("bits per character" if column == 0 else "")
            panels[0].legend(frameon=False, fontsize=9)

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Return the time of a character, and the losses along the run and at the end."""
        groups, seconds = groups_of(results), seconds_of(results)
        if not groups:
            return []
        rows = [["task", "cell", "estimator", "µs", *(f"at {m:,}" for m in MARKS), "at the end"]]
        for task, cell in SETUPS:
            for estimator in LENGTHS:
                group = groups.get((task, cell, estimator), [])
                if not group:
                    continue
                marks = [loss_at(group, mark) for mark in MARKS]
                end = mean_and_spread([one.value("last") for one in group])
                rows.append(
                    [
                        task,
                        cell.upper(),
                        short(estimator),
                        _microseconds(seconds.get((task, cell, estimator), [])),
                        *(f"{np.mean(each):.4f}" if each else "" for each in marks),
                        f"{end} of {group[0].settings['items']:,}",
                    ]
                )
        return rows


def _lengths(plan: ReproductionPlan, task: str, cell: str) -> dict[str, float]:
    """Return the estimators of a task and cell, each with its millions of characters."""
    slow = () if plan.paper else (joint(8), joint(16), scaled(8), "kron:1", "kron:3", "rtrl")
    column = 0 if (task, cell) == SETUPS[0] else 1
    return {name: each[column] for name, each in LENGTHS.items() if name not in slow}


def _timing(plan: ReproductionPlan, task: str, cell: str) -> Job:
    settings = plan.common() | {
        **TASKS[task],
        "network": network(cell),
        "estimators": list(_lengths(plan, task, cell)),
        "rounds": 6 if plan.paper else 3,
    }
    return Job(f"{task} {cell} timing", "time by estimator", settings, 120.0)


def _microseconds(times: list[float]) -> str:
    return f"{1e6 * float(np.median(times)):.3g}" if times else ""


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
