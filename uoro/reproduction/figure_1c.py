"""Figure 1c: a large network jumps under a rate that smaller ones bear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uoro.reproduction.claims import Claim, judge
from uoro.reproduction.learning import BLOCKS, learning_run
from uoro.reproduction.plot import curves, figure, level
from uoro.reproduction.reading import Replica, replicas
from uoro.reproduction.run import Plan, Results, Run

LAG, LETTERS = 5, 8
RATES = (1e-4, 1e-3, 1e-2)
PAPER_RATE = RATES[0]
ITEMS = 20_000
# Bits above a guess, as a mean over a block of 1/200 of the run, that are no longer chance.
JUMP = 0.4


class Figure1c:
    """Loss on the copy task for GRUs of several sizes."""

    name = "fig1c"
    title = "Copy after 5 steps: loss for several numbers of units (figure 1c)"
    paper = (
        "GRUs of several sizes learn to repeat what they read 5 steps ago, at the rate "
        "1e-4/(1 + 3e-3 t). The largest jumps to a high loss under a rate that the smaller ones "
        "bear, as its gradient estimates vary more."
    )
    ours = (
        "The same lag and schedule, with Adam; 8 letters drawn anew at every step, as the paper "
        "does not say which copy task it is. Two higher rates besides the paper's, with the same "
        f"decay. A jump is a mean loss over {ITEMS // BLOCKS} characters that is {JUMP} bits or "
        "more above that of a guess."
    )

    def runs(self, plan: Plan) -> list[Run]:
        """One for each size, rate and seed."""
        return [
            learning_run(
                f"{units} units rate {rate:g} seed {seed}",
                common=plan.common(),
                task="copy",
                arguments={"lag": LAG, "a": LETTERS, "rate": rate, "decay": 3e-3},
                network={"cell": "gru", "units": units, "layers": 1},
                estimator="uoro",
                items=ITEMS,
                seeds=[seed],
                window=ITEMS // 10,
                microseconds=20 + units**2 * 6e-3,
            )
            for units in (16, 64, 256, 512)[: 4 if plan.paper else 3]
            for rate in RATES
            for seed in range(plan.seeds or (3 if plan.paper else 2))
        ]

    def _groups(self, results: Results) -> dict[tuple[int, float], list[Replica]]:
        groups = replicas(results, lambda s: (s["network"]["units"], s["arguments"]["rate"]))
        return dict(sorted(groups.items()))

    def claims(self, results: Results) -> list[Claim]:
        """Who jumps, at the paper's rate and at any."""
        excess = {
            key: [_excess(one.record["blocks"]) for one in group]
            for key, group in self._groups(results).items()
        }
        sizes = sorted({units for units, _ in excess})
        found = []
        for sentence, rates in (
            ("A large network jumps under a rate that smaller ones bear.", RATES),
            ("It does so at the paper's rate.", (PAPER_RATE,)),
        ):
            told = [
                rate
                for rate in rates
                if len(sizes) > 1
                and (sizes[0], rate) in excess
                and (sizes[-1], rate) in excess
                and min(excess[sizes[-1], rate]) > JUMP
                and max(excess[sizes[0], rate]) < JUMP
            ]
            support = (
                "Highest mean loss less that of a guess, in bits, over all seeds: "
                + "; ".join(
                    f"{units} units at {rate:g}: {min(each):+.2f} to {max(each):+.2f}"
                    for (units, rate), each in excess.items()
                    if rate in rates
                )
            )
            support += (
                ". The largest jumps with every seed, and the smallest with none, at "
                + (", ".join(f"{rate:g}" for rate in told) or "none of the rates")
                + "."
            )
            whole = len(sizes) > 3
            found.append(Claim(sentence, support, judge(bool(told), whole and not told)))
        return found

    def draw(self, results: Results, path: Path) -> None:
        """Draw the losses, a panel for each rate."""
        groups = self._groups(results)
        sizes = sorted({units for units, _ in groups})
        with figure(path, columns=len(RATES)) as panels:
            for axes, rate in zip(panels, RATES, strict=True):
                for style, units in enumerate(sizes):
                    group = groups.get((units, rate), [])
                    if group:
                        losses = [one.record["loss"] for one in group]
                        label = f"{units} units"
                        curves(axes, group[0].record["items"], losses, label=label, style=style)
                level(axes, float(np.log2(LETTERS)), "a guess")
                axes.set(xscale="log", xlabel="characters", title=f"rate {rate:g}/(1 + 3e-3 t)")
                axes.set_xlim(left=30)
                axes.set_ylim(2.4, 6.0)
            panels[0].set_ylabel("loss (bits per character)")
            panels[0].legend(frameon=False)

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Give the highest and the last loss."""
        rows = [["units", "rate", "highest mean loss less a guess", "last tenth"]]
        for (units, rate), group in self._groups(results).items():
            rows.append(
                [
                    str(units),
                    f"{rate:g}",
                    ", ".join(f"{_excess(one.record['blocks']):+.2f}" for one in group),
                    ", ".join(f"{one.record['last']:.3f}" for one in group),
                ]
            )
        return rows


def _excess(blocks: Sequence[float | str]) -> float:
    """Give the highest mean over a block, less the loss of a guess."""
    return float(np.nanmax(np.array(blocks, float)) - np.log2(LETTERS))
