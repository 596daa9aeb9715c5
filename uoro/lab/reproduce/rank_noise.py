"""Beyond the paper: rank against noise, of independent pairs and of the optimal reduction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uoro.drawing import MARKERS, colour, figure
from uoro.lab.jobs import Job, Results
from uoro.lab.reproduce.claims import Claim, judge, not_run
from uoro.lab.reproduce.paper_tasks import ANBN, network
from uoro.lab.reproduce.plan import ReproductionPlan
from uoro.lab.reproduce.rank_places import (
    KRONECKER,
    RANKS,
    REDUCTIONS,
    Place,
    judge_below,
    places_of,
    ratios_of,
    spell,
    spellings,
)

UNITS = (16, 32, 64, 128, 256)
STAGES = {"rnn": [0, 100_000], "gru": [0, 10_000, 100_000, 1_000_000]}
LINES: dict[str, Any] = {
    "independent": {"linestyle": (0, (2, 1.5)), "linewidth": 1.2},
    "optimal": {"linestyle": "-", "linewidth": 2.0},
    "optimal, scaled": {"linestyle": (0, (1, 1)), "linewidth": 2.0},
    KRONECKER: {"linestyle": (0, (5, 1, 1, 1)), "linewidth": 2.0},
}
# What rounding leaves of an exact gradient in float64, squared.
ZERO = 1e-20


JOINT = "Reduced together, pairs have less variance than independent ones at every rank > 1."
LATE = "In trained networks they do from rank 4 on."
EXACT = "With a rank of the number of units there is none."
KRON = "Kronecker sums of rank 2 have less variance than joint pairs of rank 16 in a trained GRU."
GATED = "Where units are gated, scaling the projections of joint pairs lowers it further."


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
        """Return one job for each network."""
        sizes = UNITS if plan.paper else UNITS[:1] if plan.eager else UNITS[:2]
        networks = [("rnn", units) for units in sizes] + [("gru", 64)] * plan.paper
        return [
            _run(plan, cell, units, seed)
            for cell, units in networks
            for seed in range(plan.seeds or 1)
        ]

    def claims(self, results: Results) -> list[Claim]:
        """Judge whether joint reduction pays, and whether full rank has no noise."""
        places = list(places_of(results))
        ratios = ratios_of(places, "optimal", "independent")
        scaled = [one for one in ratios_of(places, "optimal, scaled", "optimal") if one.gated]
        ends = [place.values["optimal", place.units][0] for place in places if _ends(place)]
        if not ratios or not ends:
            return not_run(JOINT, LATE, EXACT, GATED)
        late = [ratio for ratio in ratios if ratio.trained and ratio.rank >= 4]
        return [
            Claim(
                JOINT,
                f"Variance as a multiple of that of independent pairs: {spell(ratios)} Of the "
                "projections of one step alone it is n/k - 1 in place of (n - 1)/k times the same, "
                "at rank 2 of 256 units 0.4 % less: too little to be seen.",
                judge_below(ratios),
            ),
            Claim(
                LATE,
                f"{spell(late)} The line at rank 4 was drawn when the numbers were known.",
                judge_below(late),
            ),
            Claim(
                EXACT,
                f"Largest relative variance of a rank of the number of units: {max(ends):.1e}. "
                f"{ZERO:.0e} is the line, for rounding in float64.",
                judge(max(ends) < ZERO, max(ends) > ZERO),
            ),
            Claim(
                GATED,
                f"Variance of the GRU as a multiple of that without scaling: {spell(scaled)}",
                judge_below(scaled),
            ),
            *_kronecker(places),
        ]

    def draw(self, results: Results, path: Path) -> None:
        """Draw the variance against the rank, a panel for tanh at each stage and one for GRUs."""
        places = list(places_of(results))
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
        """Return the relative variance by rank, one row for each network, stage and reduction."""
        places = list(places_of(results))
        if not places:
            return []
        ranks = [rank for rank in RANKS if any(key[1] == rank for p in places for key in p.values)]
        rows = [["network", "characters of training", "pairs", *(f"rank {k}" for k in ranks)]]
        for place in places:
            for reduction in REDUCTIONS:
                cells = [_cell(place, reduction, rank) for rank in ranks]
                if any(cells) or reduction != KRONECKER:
                    rows.append([place.run, f"{place.stage:,}", reduction, *cells])
        return rows


def _run(plan: ReproductionPlan, cell: str, units: int, seed: int) -> Job:
    ranks = RANKS if plan.paper else (1, 2, 4, 16)
    windows = plan.length(paper=120, quick=60, eager=20)
    most = plan.length(paper=64, quick=16, eager=8)
    reruns = most if units <= 32 else max(16, most // 2) if units <= 64 else 16
    stages = STAGES[cell] if plan.paper else [0]
    settings = {
        **ANBN,
        "network": network(cell, units),
        "estimators": spellings(ranks),
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


def _kronecker(places: list[Place]) -> list[Claim]:
    """Judge whether rank 2 of Kronecker sums is below rank 16 of joint pairs."""
    mine, theirs = (KRONECKER, 2), ("optimal", 16)
    found = [
        (place.values[mine], place.values[theirs])
        for place in places
        if place.gated and place.stage and {mine, theirs} <= place.values.keys()
    ]
    if not found:
        return []
    said = "; ".join(f"{one[0]:.2g} and {other[0]:.2g}" for one, other in found)
    support = f"Relative variance of rank 2 and of joint rank 16: {said}."
    below = all(one[0] + one[1] < other[0] - other[1] for one, other in found)
    above = any(one[0] - one[1] > other[0] + other[1] for one, other in found)
    return [Claim(KRON, support, judge(below, above))]


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
            color=colour(style),
            marker=MARKERS[style],
            markerfacecolor=colour(style) if optimal else "white",
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
