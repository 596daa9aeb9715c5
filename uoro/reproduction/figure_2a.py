"""Figure 2a: influence balancing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uoro.reproduction.claims import Claim, judge
from uoro.reproduction.learning import learning_run
from uoro.reproduction.plot import curves, figure, level
from uoro.reproduction.reading import Replica, replicas
from uoro.reproduction.run import Plan, Results, Run

RATE = 1e-3
FAILING, CONVERGING = (1, 10, 100), 200
SOLVED = 1e-6
# A truncated gradient is exact where the loss is zero, and gets there slowly: this is on its way.
NEAR = 0.02
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
        "In float64. UORO at η = 1e-3 with 20 seeds; truncation at five rates, so that none can "
        "be said to have been badly chosen. Time counts items of the stream."
    )

    def runs(self, plan: Plan) -> list[Run]:
        """UORO with all seeds side by side; truncation, which draws nothing, once each."""
        items = FULL_LENGTH if plan.paper else 50_000
        rates = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4) if plan.paper else (1e-2, 1e-3, 1e-4)
        spans = [(t, rate) for t in (*FAILING, CONVERGING) for rate in rates]
        spans += [(t, RATE) for t in ((20, 50, 120, 150, 400) if plan.paper else (50, 400))]
        found = [("uoro", RATE, list(range(plan.seeds or (20 if plan.paper else 5))))]
        found += [(f"tbptt:{t}", rate, [0]) for t, rate in spans]
        return [
            learning_run(
                f"{estimator} rate {rate:g}",
                common=plan.common("float64"),
                task="influence-balancing",
                arguments={"units": 23, "minus": 13, "rate": rate},
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
        return replicas(results, lambda s: (s["estimator"], s["arguments"]["rate"]))

    def claims(self, results: Results) -> list[Claim]:
        """UORO solves it; short spans move away; long ones come near."""
        groups = self._groups(results)
        ends = [one.record["last"] for one in groups.get(("uoro", RATE), [])]
        whole = all(one.settings["items"] >= FULL_LENGTH for one in groups.get(("uoro", RATE), []))
        below = sum(end < SOLVED for end in ends)
        found = [
            Claim(
                "UORO solves influence balancing.",
                f"{below} of {len(ends)} seeds end below {SOLVED:g} (mean over the last 1,000 "
                f"items); the worst at {max(ends, default=np.nan):.2g}.",
                judge(bool(ends) and below == len(ends), whole and below < len(ends)),
            )
        ]
        for t in FAILING:
            tried = {
                rate: group[0] for (name, rate), group in groups.items() if name == f"tbptt:{t}"
            }
            away = {
                rate: not one.record["last"] <= one.record["first"] for rate, one in tried.items()
            }
            found.append(
                Claim(
                    f"Truncated BPTT with T = {t} moves away from the target.",
                    "Loss over the last 1,000 items, having begun at 0.5: "
                    + (
                        _listed({rate: one.record["last"] for rate, one in tried.items()})
                        or "not run"
                    )
                    + ".",
                    judge(bool(away) and all(away.values()), bool(away) and not all(away.values())),
                )
            )
        tried = {
            rate: group[0]
            for (name, rate), group in groups.items()
            if name == f"tbptt:{CONVERGING}"
        }
        near = {rate: one.record["last"] < NEAR for rate, one in tried.items()}
        found.append(
            Claim(
                f"Truncated BPTT with T = {CONVERGING} converges.",
                "Loss over the last 1,000 items: "
                + (_listed({rate: one.record["last"] for rate, one in tried.items()}) or "not run")
                + f". It holds if it falls below {NEAR} at some rate.",
                judge(any(near.values()), bool(near) and not any(near.values())),
            )
        )
        spans = {
            int(name.partition(":")[2]): group[0].record["last"]
            for (name, rate), group in groups.items()
            if rate == RATE and name != "uoro"
        }
        shorter = {t: loss for t, loss in spans.items() if t < CONVERGING}
        found.append(
            Claim(
                f"No span below {CONVERGING} will do.",
                f"Loss over the last 1,000 items at η = {RATE:g}: "
                + (
                    ", ".join(f"{loss:.2g} for T = {t}" for t, loss in sorted(spans.items()))
                    or "not run"
                )
                + f". It fails if one of less than {CONVERGING} ends below {NEAR}.",
                judge(
                    any(t >= NEAREST for t in shorter)
                    and not any(loss < NEAR for loss in shorter.values()),
                    any(loss < NEAR for loss in shorter.values()),
                ),
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
                losses = np.array([one.record["loss"] for one in group], float)
                losses = np.clip(
                    np.nan_to_num(losses, nan=HIGHEST, posinf=HIGHEST), LOWEST, HIGHEST
                )
                label = f"UORO, {len(group)} seeds" if name == "uoro" else f"TBPTT {name[6:]}"
                curves(axes, group[0].record["items"], losses.tolist(), label=label, style=style)
            level(axes, SOLVED, "solved")
            axes.set(xscale="log", yscale="log", xlabel="items", ylabel="loss")
            axes.set_ylim(LOWEST, HIGHEST)
            axes.legend(frameon=False, ncols=2)

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Give the last loss of every span and rate."""
        groups = self._groups(results)
        rates = sorted({rate for _, rate in groups}, reverse=True)
        names = sorted(
            {name for name, _ in groups}, key=lambda name: int(name.partition(":")[2] or 0)
        )
        rows = [["estimator", *(f"η = {rate:g}" for rate in rates)]]
        for name in names:
            row = [name]
            for rate in rates:
                group = groups.get((name, rate))
                worst = (
                    max((one.record["last"] for one in group), default=np.nan) if group else None
                )
                row.append("" if worst is None else f"{worst:.2g}")
            rows.append(row)
        return rows


def _listed(losses: dict[float, float]) -> str:
    return ", ".join(f"{loss:.2g} at η = {rate:g}" for rate, loss in sorted(losses.items()))
