"""Figure 2a: influence balancing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uoro.drawing import curves, figure, level
from uoro.lab.jobs import Job, Results
from uoro.lab.reproduce.claims import Claim, judge
from uoro.lab.reproduce.learning import learning_run
from uoro.lab.reproduce.plan import ReproductionPlan
from uoro.lab.reproduce.reading import Replica, replicas

RATE = 1e-3
FAILING, CONVERGING = (1, 10, 100), 200
SOLVED = 1e-6
# Of a loss that began at 0.5: not there yet, but converging.
NEAR = 1e-4
# To say that no shorter span converges, one not much shorter must have been tried.
NEAREST = 150
FULL_LENGTH = 100_000
LOWEST, HIGHEST = 1e-20, 1e12
COST = 20.0


class Figure2a:
    """Loss on influence balancing, 23 units of which 13 enter negatively."""

    name = "fig2a"
    title = "Influence balancing: loss of UORO and truncated BPTT (figure 2a)"
    paper = (
        "23 units, 10 plus and 13 minus, SGD at η/(1 + √t). UORO converges; chunked truncated "
        "BPTT diverges for T = 1, 10 and 100, far beyond the 23 steps an influence takes to "
        "cross the system, and converges for T = 200."
    )
    ours = (
        "In float64. UORO at η = 1e-3 with 20 seeds; truncation at five learning rates, to exclude "
        "a bad choice. Time counts items of the stream. Losses are means over "
        "the last 1,000 items."
    )

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        """Return one job for UORO with all seeds, and one for each truncation, without signs."""
        items = FULL_LENGTH if plan.paper else 50_000
        rates = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4) if plan.paper else (1e-2, 1e-3, 1e-4)
        spans = [(t, rate) for t in (*FAILING, CONVERGING) for rate in rates]
        spans += [(t, RATE) for t in ((20, 50, 120, 150, 400) if plan.paper else (50, 400))]
        found = [("uoro", RATE, list(range(plan.seeds or (20 if plan.paper else 5))))]
        found += [(f"tbptt:{t}", rate, [0]) for t, rate in spans]
        return [
            learning_run(
                f"{estimator} rate {rate:g}" + (f", {len(seeds)} seeds" if seeds[1:] else ""),
                common=plan.common("float64"),
                task="influence-balancing",
                arguments={"units": 23, "minus": 13, "learning_rate": rate},
                network=None,
                estimator=estimator,
                items=items,
                seeds=seeds,
                window=max(1000, int(estimator.partition(":")[2] or 1)),
                microseconds=COST,
            )
            for estimator, rate, seeds in found
        ]

    def _groups(self, results: Results) -> dict[tuple[str, float], list[Replica]]:
        return replicas(results, lambda s: (s["estimator"], s["arguments"]["learning_rate"]))

    def claims(self, results: Results) -> list[Claim]:
        """Judge that UORO solves the task, short spans move away, long spans converge."""
        groups = self._groups(results)
        mine = groups.get(("uoro", RATE), [])
        ends = [one.value("last") for one in mine]
        below = sum(end < SOLVED for end in ends)
        spans = {
            (int(name.partition(":")[2]), rate): group[0]
            for (name, rate), group in groups.items()
            if name != "uoro"
        }
        whole = all(one.settings["items"] >= FULL_LENGTH for one in (*mine, *spans.values()))
        found = [
            Claim(
                "UORO solves influence balancing.",
                f"{below} of {len(ends)} seeds end below {SOLVED:g}; the worst at "
                f"{max(ends, default=np.nan):.2g}.",
                judge(bool(ends) and below == len(ends), whole and below < len(ends)),
            )
        ]
        for t in FAILING:
            tried = {rate: one for (span, rate), one in spans.items() if span == t}
            away = [one.value("last") > one.value("first") for one in tried.values()]
            found.append(
                Claim(
                    f"Truncated BPTT with T = {t} moves away from the target, at every rate.",
                    f"The loss began at 0.5. It ends at {_at_rates(tried)}.",
                    judge(bool(away) and all(away), bool(away) and not all(away)),
                )
            )
        tried = {rate: one for (span, rate), one in spans.items() if span == CONVERGING}
        there = any(one.value("last") < SOLVED for one in tried.values())
        found.append(
            Claim(
                f"Truncated BPTT with T = {CONVERGING} converges.",
                f"It ends at {_at_rates(tried)}. It holds if it is below {SOLVED:g} at some rate.",
                judge(there, whole and bool(tried) and not there),
            )
        )
        reached = {span: one.value("last") for (span, rate), one in spans.items() if rate == RATE}
        shorter = {span: reached[span] for span in sorted(reached) if span < CONVERGING}
        converging = any(end < NEAR for end in shorter.values())
        near = max(shorter, default=0) >= NEAREST
        found.append(
            Claim(
                f"No span below {CONVERGING} will do.",
                f"At η = {RATE:g} the loss ends at "
                + ", ".join(f"{end:.2g} for T = {span}" for span, end in shorter.items())
                + f". It fails if one ends below {NEAR:g}, clearly on its way.",
                judge(whole and near and not converging, converging),
            )
        )
        return found

    def draw(self, results: Results, path: Path) -> None:
        """Draw losses at the rate of the claims."""
        with figure(path) as (axes,):
            groups = {name: g for (name, rate), g in self._groups(results).items() if rate == RATE}
            names = sorted(
                groups, key=lambda name: (name != "uoro", int(name.partition(":")[2] or 0))
            )
            for style, name in enumerate(names):
                group = groups[name]
                losses = [np.clip(one.values("loss"), LOWEST, HIGHEST).tolist() for one in group]
                label = f"UORO, {len(group)} seeds" if name == "uoro" else f"TBPTT {name[6:]}"
                curves(axes, group[0].record["items"], losses, label=label, number=style)
            level(axes, SOLVED, "solved")
            axes.set(xscale="log", yscale="log", xlabel="items", ylabel="loss")
            axes.set_ylim(LOWEST, HIGHEST)
            axes.legend(frameon=False, ncols=2)

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Return the last loss of every span and rate."""
        groups = self._groups(results)
        rates = sorted({rate for _, rate in groups}, reverse=True)
        names = sorted(
            {name for name, _ in groups}, key=lambda name: int(name.partition(":")[2] or 0)
        )
        rows = [["estimator", *(f"η = {rate:g}" for rate in rates)]]
        for name in names:
            row = [name]
            for rate in rates:
                ends = [one.value("last") for one in groups.get((name, rate), [])]
                row.append(f"{max(ends):.2g}" if ends else "")
            rows.append(row)
        return rows


def _at_rates(tried: dict[float, Replica]) -> str:
    ends = [f"{tried[rate].value('last'):.2g} for η = {rate:g}" for rate in sorted(tried)]
    return ", ".join(ends) or "what is not known yet"
