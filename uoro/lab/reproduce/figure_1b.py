"""Figure 1b: the variance of the gradient estimate grows with the number of units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uoro.drawing import figure, marked
from uoro.lab.jobs import Job, Results
from uoro.lab.reproduce.claims import Claim, judge, slope
from uoro.lab.reproduce.paper_tasks import network
from uoro.lab.reproduce.plan import ReproductionPlan

STEPS = 10


class Figure1b:
    """Relative variance of UORO's gradient after a few steps, by size."""

    name = "fig1b"
    title = "Relative variance of the gradient estimate by number of units (figure 1b)"
    paper = (
        "Untrained GRUs of many sizes run for 10 steps of text, 100 times each. The relative "
        "variance of UORO's gradient at the end grows with the number of units."
    )
    ours = (
        "The same on Shakespeare, several initialisations of each size, each with other text, "
        "against the exact gradient by backpropagation through all 10 steps."
    )

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        """Return one job for each size and initialisation."""
        sizes = [2**k for k in range(3, plan.length(paper=11, quick=9, eager=7))]
        reruns = plan.length(paper=100, quick=50, eager=30)
        return [
            Job(
                f"{units} units, network {seed}",
                "noise by units",
                plan.common()
                | {
                    "task": "text",
                    "arguments": {},
                    "network": network("gru", units),
                    "start": 10_000 * (seed + 1),
                    "steps": STEPS,
                    "reruns": reruns,
                    "seed": seed,
                },
                8 + reruns * STEPS * (units / 1024) ** 2 * 0.05,
            )
            for seed in range(plan.seeds or (3 if plan.paper else 2))
            for units in sizes
        ]

    def _points(self, results: Results) -> list[tuple[int, int, float, float]]:
        return sorted(
            (
                done.settings["network"]["units"],
                done.settings["seed"],
                done.result["relative_variance"],
                done.result["standard_error"],
            )
            for done in results.values()
        )

    def claims(self, results: Results) -> list[Claim]:
        """Judge the slope."""
        sentence = "The relative variance of UORO's gradient grows with the number of units."
        points = self._points(results)
        sizes = {point[0] for point in points}
        if len(sizes) < 4:
            return [Claim(sentence, f"{len(sizes)} sizes were run.", judge(False, False))]
        fit = slope([float(np.log(p[0])) for p in points], [float(np.log(p[2])) for p in points])
        means = {size: np.mean([p[2] for p in points if p[0] == size]) for size in sizes}
        return [
            Claim(
                sentence,
                f"Slope of the log relative variance against the log of the units, from "
                f"{min(sizes)} to {max(sizes)}, with its 95 % interval: {fit}, over {len(points)} "
                f"networks; the mean goes from {means[min(sizes)]:.3g} to {means[max(sizes)]:.3g}.",
                judge(fit.low > 0, fit.high < 0),
            )
        ]

    def draw(self, results: Results, path: Path) -> None:
        """Draw every network with its standard error, and the means."""
        points = self._points(results)
        with figure(path) as (axes,):
            for number, seed in enumerate(sorted({point[1] for point in points})):
                mine = [point for point in points if point[1] == seed]
                axes.errorbar(
                    [point[0] for point in mine],
                    [point[2] for point in mine],
                    yerr=[point[3] for point in mine],
                    **marked(number) | {"linestyle": ""},
                    capsize=3,
                    label=f"network {seed}",
                )
            sizes = sorted({point[0] for point in points})
            means = [np.mean([point[2] for point in points if point[0] == size]) for size in sizes]
            axes.plot(sizes, means, color="0.3", linewidth=1.5, label="mean")
            axes.set(xscale="log", yscale="log", xlabel="units", ylabel="relative variance")
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.legend(frameon=False)

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Return the mean for each size."""
        points = self._points(results)
        rows = [["units", "relative variance", "networks"]]
        for size in sorted({point[0] for point in points}):
            values = [point[2] for point in points if point[0] == size]
            rows.append(
                [
                    str(size),
                    f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})",
                    str(len(values)),
                ]
            )
        return rows
