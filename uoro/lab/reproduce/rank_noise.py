"""Beyond the paper: rank against noise, of independent pairs and of the optimal reduction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from uoro.drawing import COLOURS, MARKERS, figure
from uoro.lab.jobs import Done, Job, Results
from uoro.lab.reproduce.claims import Claim, Verdict, judge
from uoro.lab.reproduce.plan import ReproductionPlan

RANKS = (1, 2, 4, 8, 16)
UNITS = (16, 32, 64, 128, 256)
STAGES = {"rnn": [0, 100_000], "gru": [0, 10_000, 100_000, 1_000_000]}
REDUCTIONS = {
    "independent": "",
    "optimal": ",reduction=optimal",
    "optimal, scaled": ",reduction=optimal,scaling=rows",
}
"""How each is spelled after the rank."""
LINES: dict[str, Any] = {
    "independent": {"linestyle": (0, (2, 1.5)), "linewidth": 1.2},
    "optimal": {"linestyle": "-", "linewidth": 2.0},
    "optimal, scaled": {"linestyle": (0, (1, 1)), "linewidth": 2.0},
}
# What rounding leaves of an exact gradient in float64, squared.
ZERO = 1e-20


JOINT = "Reduced together, pairs have less variance than independent ones at every rank > 1."
LATE = "In trained networks they do from rank 4 on."
EXACT = "With a rank of the number of units there is none."
GATED = "Where units are gated, scaling the projections of joint pairs lowers it further."


class Place(NamedTuple):
    """A network at a stage of its training, and the relative variance there with its error."""

    run: str
    gated: bool
    units: int
    stage: int
    values: dict[tuple[str, int], tuple[float, float]]


class Ratio(NamedTuple):
    """Variance of one way over that of another, and half its interval."""

    value: float
    half: float
    rank: int
    trained: bool
    gated: bool


class RankNoise:
    """Relative variance of the gradient by rank, reduction, scaling and number of units."""

    name = "rank-noise"
    title = "Relative variance by rank, independent and reduced together (beyond the paper)"
    paper = (
        "Beyond the paper: it has rank k as the mean of k independent pairs (section 3.4). The "
        "reduction of 2k pairs to k of least variance is that of Benzing et al., arXiv:1902.03993, "
        "there for Kronecker products; the scaling of projections is a case of that of Cooijmans & "
        "Martens, arXiv:1902.02405."
    )
    ours = (
        "Tanh networks and a GRU on aⁿbⁿ(1, 32), untrained and trained by UORO, and there held, in "
        "float64. Every run is over the same characters with signs of its own. The first steps are "
        "left out; over the others, the sum of mean ‖g̃ - g‖² is divided by that of ‖g‖², with g by "
        "exact RTRL. Intervals are 95 %, over the runs."
    )

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        """One for each network."""
        sizes = UNITS if plan.paper else UNITS[:1] if plan.eager else UNITS[:2]
        networks = [("rnn", units) for units in sizes] + [("gru", 64)] * plan.paper
        return [
            _run(plan, cell, units, seed)
            for cell, units in networks
            for seed in range(plan.seeds or 1)
        ]

    def claims(self, results: Results) -> list[Claim]:
        """Whether reducing together pays, and whether it ends in no noise at all."""
        places = list(_places(results))
        ratios = _ratios(places, "optimal", "independent")
        scaled = [one for one in _ratios(places, "optimal, scaled", "optimal") if one.gated]
        ends = [place.values["optimal", place.units][0] for place in places if _ends(place)]
        if not ratios or not ends:
            missing = (JOINT, LATE, EXACT, GATED)
            return [Claim(each, "It was not run.", judge(False, False)) for each in missing]
        late = [ratio for ratio in ratios if ratio.trained and ratio.rank >= 4]
        return [
            Claim(
                JOINT,
                f"Variance as a multiple of that of independent pairs: {_spell(ratios)} Of the "
                "projections of one step alone it is n/k - 1 in place of (n - 1)/k times the same, "
                "at rank 2 of 256 units 0.4 % less: too little to be seen.",
                _below(ratios),
            ),
            Claim(
                LATE,
                f"{_spell(late)} The line at rank 4 was drawn when the numbers were known.",
                _below(late),
            ),
            Claim(
                EXACT,
                f"Largest relative variance of a rank of the number of units: {max(ends):.1e}. "
                f"{ZERO:.0e} is the line, for rounding in float64.",
                judge(max(ends) < ZERO, max(ends) > ZERO),
            ),
            Claim(
                GATED,
                f"Variance of the GRU as a multiple of that without scaling: {_spell(scaled)}",
                _below(scaled),
            ),
        ]

    def draw(self, results: Results, path: Path) -> None:
        """Draw the variance against the rank, a panel for tanh at each stage and one for GRUs."""
        places = list(_places(results))
        panels = _panels(results, places)
        with figure(path, columns=max(1, len(panels)), share=False) as many:
            for axes, (title, labelled) in zip(many, panels.items(), strict=False):
                values = [value for _, place in labelled for value, _ in place.values.values()]
                # Zero is drawn at the foot, and said to be zero.
                foot = 0.4 * min(value for value in values if value > ZERO)
                for style, (label, place) in enumerate(labelled):
                    _draw_place(axes, place, label, style, foot)
                axes.set_xscale("log", base=2)
                axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
                axes.set(yscale="log", xlabel="rank", title=title)
                axes.set_ylim(0.7 * foot, 8.0 * max(values))
                axes.legend(frameon=False, loc="upper right", ncols=2)
            many[0].set_ylabel("relative variance of the gradient")
            _tell_reductions(many[0])

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Give the relative variance by rank, a row for each network, stage and reduction."""
        places = list(_places(results))
        if not places:
            return []
        ranks = [rank for rank in RANKS if any(("optimal", rank) in p.values for p in places)]
        rows = [["network", "characters of training", "pairs", *(f"rank {k}" for k in ranks)]]
        for place in places:
            for reduction in REDUCTIONS:
                cells = [_cell(place, reduction, rank) for rank in ranks]
                rows.append([place.run, f"{place.stage:,}", reduction, *cells])
        return rows


def _run(plan: ReproductionPlan, cell: str, units: int, seed: int) -> Job:
    ranks = RANKS if plan.paper else (1, 4, 16)
    windows = plan.length(paper=120, quick=60, eager=20)
    most = plan.length(paper=64, quick=16, eager=8)
    reruns = most if units <= 32 else max(16, most // 2) if units <= 64 else 16
    stages = STAGES[cell] if plan.paper else [0]
    settings = {
        "task": "anbn",
        "arguments": {"k": 1, "l": 32, "learning_rate": 1e-3, "decay": 0.03},
        "network": {"cell": cell, "units": units, "layers": 1},
        "estimators": [name for k in ranks for name in map(_named(k), REDUCTIONS)],
        "window": 1,
        "windows": windows,
        "skipped_windows": windows // 3,
        "reruns": reruns,
        "stages": stages,
        "seed": seed,
    }
    cost = 15 + stages[-1] * 2e-5 + len(stages) * windows * (units / 256) ** 2 * 1.0
    name = f"{'tanh' if cell == 'rnn' else cell.upper()}, {units} units"
    if seed:
        name += f", network {seed}"
    return Job(name, "noise by estimator", plan.common("float64") | settings, cost)


def _named(rank: int) -> Any:
    def spell(reduction: str) -> str:
        return f"uoro:rank={rank}{REDUCTIONS[reduction]}"

    return spell


def _places(results: Results) -> Iterator[Place]:
    """Go through networks and stages, the smaller networks first, and the tanh ones."""
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
            name = _named(rank)(reduction)
            if name in done.result["relative_variance"]:
                found[reduction, rank] = (
                    done.result["relative_variance"][name][number],
                    1.96 * done.result["standard_error"][name][number],
                )
    return found


def _ratios(places: list[Place], one: str, other: str) -> list[Ratio]:
    """Divide one way by another at every place and rank > 1 that is below the number of units."""
    found = []
    for place in places:
        for rank in RANKS[1:]:
            if rank < place.units and {(one, rank), (other, rank)} <= place.values.keys():
                (mine, my_half), (plain, half) = place.values[one, rank], place.values[other, rank]
                ratio = mine / plain
                error = ratio * math.hypot(my_half / mine if mine else 0.0, half / plain)
                found.append(Ratio(ratio, error, rank, place.stage > 0, place.gated))
    return found


def _below(ratios: list[Ratio]) -> Verdict:
    """Judge by whether the intervals are all below 1."""
    return judge(
        bool(ratios) and all(one.value + one.half < 1.0 for one in ratios),
        any(one.value - one.half > 1.0 for one in ratios),
    )


def _spell(ratios: list[Ratio]) -> str:
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


def _ends(place: Place) -> bool:
    return ("optimal", place.units) in place.values


def _cell(place: Place, reduction: str, rank: int) -> str:
    if (reduction, rank) not in place.values:
        return ""
    value, half = place.values[reduction, rank]
    return "0" if value < ZERO else f"{value:.3g} ± {half:.2g}"


def _panels(results: Results, places: list[Place]) -> dict[str, list[tuple[str, Place]]]:
    panels: dict[str, list[tuple[str, Place]]] = {}
    for place in places:
        settings = results[place.run].settings
        cell, units = settings["network"]["cell"], f"{place.units} units"
        if settings["seed"]:
            continue  # Further networks are in the table; the figure is full without them.
        if cell == "rnn":
            when = f"after {place.stage:,} characters" if place.stage else "untrained"
            panels.setdefault(f"tanh, {when}", []).append((units, place))
        else:
            label = f"{place.stage:,} characters" if place.stage else "untrained"
            panels.setdefault(f"{cell.upper()}, {units}", []).append((label, place))
    return panels


def _draw_place(axes: Any, place: Place, label: str, style: int, foot: float) -> None:
    """Draw all in one colour, the independent ones dashed and hollow, the scaled ones dotted."""
    for reduction in REDUCTIONS:
        optimal = reduction == "optimal"
        points = [
            (rank, *place.values[reduction, rank])
            for rank in RANKS
            if (reduction, rank) in place.values
        ]
        axes.errorbar(
            [rank for rank, _, _ in points],
            [max(value, foot) for _, value, _ in points],
            yerr=[half for _, _, half in points],
            color=COLOURS[style],
            marker=MARKERS[style],
            markerfacecolor=COLOURS[style] if optimal else "white",
            capsize=3,
            **LINES[reduction],
            label=label if optimal else None,
        )
        for rank, value, _ in points:
            if value < ZERO:
                axes.annotate("0", (rank, foot), xytext=(8, 0), textcoords="offset points")


def _tell_reductions(axes: Any) -> None:
    """Add a second legend, of the lines."""
    first = axes.get_legend()
    lines = [axes.plot([], [], color="black", **LINES[each])[0] for each in REDUCTIONS]
    axes.legend(lines, list(REDUCTIONS), frameon=False, loc="lower left")
    if first is not None:
        axes.add_artist(first)
