"""Figure 1a: the variance of the gradient estimate does not grow with time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uoro.drawing import colour, figure
from uoro.lab.jobs import Done, Job, Results
from uoro.lab.reproduce.claims import Claim, Values, in_stretches, judge, not_run, slope_in_time
from uoro.lab.reproduce.paper_tasks import network
from uoro.lab.reproduce.plan import ReproductionPlan

# A pair begins at zero; its variance has settled after this many steps.
SETTLED = 100
PER_DECADE = 12
# A slope below this is less than 26 % a decade.
FLAT = 0.1


class Figure1a:
    """Relative variance of UORO's gradient along a text, the params held."""

    name = "fig1a"
    title = "Relative variance of the gradient estimate in time (figure 1a)"
    paper = (
        "A GRU with 64 units is trained on 10⁷ characters of Shakespeare; then the params are held "
        "and UORO runs 100 times over the first 10⁴ characters. The relative variance "
        "E‖g̃ - E g̃‖²/‖E g̃‖² stays on one level."
    )
    ours = (
        "The same on the plays in Markdown, 5.3 million characters again and again, trained by "
        "UORO with Adam at 1e-3/(1 + 0.03 √t). The reference is the exact gradient, by RTRL for "
        "the whole state, in place of the mean of the runs, whose noise would hide the small mean; "
        "the mean of the runs is compared with the reference."
    )

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        """Return one job for each network; the paper has one."""
        train, items, reruns = (
            (10**7, 10_000, 100)
            if plan.paper
            else (1_000, 500, 10)
            if plan.eager
            else (50_000, 1_000, 20)
        )
        settings = {
            "task": "text",
            "arguments": {"learning_rate": 1e-3, "decay": 0.03},
            "network": network("gru"),
            "train_items": train,
            "items": items,
            "reruns": reruns,
            "skipped": 1,
        }
        cost = 10 + train * 45e-6 + items * (0.02 + reruns * 1e-4)
        return [
            Job(f"network {seed}", "noise in time", plan.common() | settings | {"seed": seed}, cost)
            for seed in range(plan.seeds or 1)
        ]

    def claims(self, results: Results) -> list[Claim]:
        """Judge the slope, and unbiasedness along the way."""
        sentence = "The relative variance of UORO's gradient does not grow with time."
        unbiased = "The mean of the runs agrees with the exact gradient."
        if not results:
            return not_run(sentence, unbiased)
        found = []
        for id, done in results.items():
            times, variance = _steps(done)
            inside = times > SETTLED
            fit = slope_in_time(np.log(times[inside]), np.log(variance[inside]))
            found.append(
                Claim(
                    sentence,
                    f"{id}: slope of the log relative variance against log time, from step "
                    f"{SETTLED} to {done.settings['items']:,}: {fit} (95 %), over "
                    f"{done.result['runs']} runs, leaving out a twentieth of the time at once. It "
                    f"holds if the interval lies below {FLAT}, a quarter a decade, and fails if "
                    "above.",
                    judge(fit.high < FLAT, fit.low > FLAT),
                )
            )
            ratio = np.array(done.result["mean_error"]) * done.result["runs"] / variance
            error = float(ratio.std(ddof=1) / np.sqrt(len(ratio) / SETTLED))
            mean = float(ratio.mean())
            found.append(
                Claim(
                    unbiased,
                    f"{id}: the squared distance of their mean from it is {mean:.3f} ± {error:.3f} "
                    "times the variance of one run divided by the number of runs; 1 is wanted.",
                    judge(abs(mean - 1) < 3 * error, abs(mean - 1) > 6 * error),
                )
            )
        return found

    def draw(self, results: Results, path: Path) -> None:
        """Draw the relative variance, every step and in stretches."""
        with figure(path) as (axes,):
            for number, (id, done) in enumerate(results.items()):
                times, variance = _steps(done)
                axes.plot(times, variance, ",", color="0.7", rasterized=True)
                middles, means = in_stretches(times, variance, PER_DECADE)
                label = f"{id}, {done.result['runs']} runs"
                axes.plot(
                    middles,
                    means,
                    "o-",
                    color=colour(1 + number),
                    linewidth=2,
                    markersize=5,
                    label=label,
                )
            axes.set(xscale="log", yscale="log", xlabel="characters", ylabel="relative variance")
            axes.set_title("every step (grey), means over stretches (marked)")
            axes.legend(frameon=False)

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Return the level by decades."""
        if not results:
            return []
        rows = [["steps", *results]]
        steps = max(done.settings["items"] for done in results.values())
        for decade in range(1, len(str(steps - 1))):
            low, high = 10**decade, min(steps, 10 ** (decade + 1))
            row = [f"{low:,} to {high:,}"]
            for done in results.values():
                times, variance = _steps(done)
                row.append(f"{variance[(times > low) & (times <= high)].mean():.4g}")
            rows.append(row)
        rows.append(["loss at the end of training", *(_loss(done) for done in results.values())])
        return rows


def _loss(done: Done) -> str:
    return f"{done.result['training_loss']:.3f} bits"


def _steps(done: Done) -> tuple[Values, Values]:
    """Return the number of every step, from 1, and the relative variance there."""
    variance = np.array(done.result["relative_variance"])
    return np.arange(len(variance)) + done.settings["skipped"] + 1.0, variance
