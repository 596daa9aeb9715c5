"""Section 3.4: rank and memory against noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uoro.drawing import figure, marked
from uoro.lab.jobs import Done, Job, Results
from uoro.lab.reproduce.claims import Claim, judge, not_run
from uoro.lab.reproduce.paper_tasks import ANBN, network
from uoro.lab.reproduce.plan import ReproductionPlan

ESTIMATORS = ("uoro", "uoro:rank=2", "uoro:memory=2", "uoro:memory=16")
WINDOW = 16
# "Visibly": by a fifth at least. Two independent pairs should halve it.
VISIBLE = 0.8
SKIPPED = 5


class Section34:
    """Relative variance by rank and memory, at stages of training."""

    name = "sec3.4"
    title = "Relative variance by rank and memory, at stages of training (section 3.4)"
    paper = (
        "Two ways to less noise: rank-k averages k independent pairs and divides the variance by "
        "k; memory-T backpropagates through T steps and leaves only what lies further back to the "
        "estimate, which helps early in training."
    )
    ours = (
        "A GRU with 64 units on aⁿbⁿ(1, 32), trained by UORO up to some stages, and there held. "
        "All estimators estimate the gradient of the summed losses of 16 steps, and are compared "
        "with the exact one, by RTRL; an estimator of shorter memory adds up its gradients."
    )

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        """Return one job for each network."""
        last = plan.length(paper=1_000_000, quick=100_000, eager=1_000)
        stages = [stage for stage in (0, 1_000, 10_000, 100_000, 1_000_000) if stage <= last]
        windows = plan.length(paper=60, quick=25, eager=12)
        reruns = plan.length(paper=50, quick=20, eager=10)
        settings = {
            **ANBN,
            "network": network("gru"),
            "estimators": list(ESTIMATORS),
            "window": WINDOW,
            "windows": windows,
            "skipped_windows": SKIPPED,
            "reruns": reruns,
            "stages": stages,
        }
        cost = 25 + stages[-1] * 25e-6 + len(stages) * windows * reruns * 5e-3
        return [
            Job(
                f"network {seed}",
                "noise by estimator",
                plan.common() | settings | {"seed": seed},
                cost,
            )
            for seed in range(plan.seeds or (3 if plan.paper else 1))
        ]

    def claims(self, results: Results) -> list[Claim]:
        """Judge the rank at every stage, the memory at the first stages."""
        rank = "Rank 2 visibly reduces the variance."
        memory = "Memory-T reduces the variance early in training."
        if not results:
            return not_run(rank, memory)
        ratios = [_ratio(done, "uoro:rank=2") for done in results.values()]
        every = [one for each in ratios for one in each]
        early = {
            name: [one for done in results.values() for one in _ratio(done, name)[:2]]
            for name in ESTIMATORS[2:]
        }
        late = {
            name: [_ratio(done, name)[-1] for done in results.values()] for name in ESTIMATORS[2:]
        }
        stages = next(iter(results.values())).result["stages"]
        return [
            Claim(
                rank,
                f"Variance of rank 2 over that of rank 1: {min(every):.2f} to {max(every):.2f}, "
                f"in {len(ratios)} networks and the stages {_list(stages)}; one half is what two "
                f"independent pairs should give, {VISIBLE} the line drawn.",
                judge(max(every) < VISIBLE, min(every) > VISIBLE),
            ),
            Claim(
                memory,
                f"Variance as a multiple of memory-1's at the stages {_list(stages[:2])}: "
                + "; ".join(f"{name[5:]} {min(v):.3f} to {max(v):.3f}" for name, v in early.items())
                + f". At {stages[-1]:,} characters: "
                + "; ".join(f"{name[5:]} {min(v):.3f} to {max(v):.3f}" for name, v in late.items())
                + f". The line is drawn at {VISIBLE}.",
                judge(
                    all(max(each) < VISIBLE for each in early.values()),
                    all(min(each) > VISIBLE for each in early.values()),
                ),
            ),
        ]

    def draw(self, results: Results, path: Path) -> None:
        """Draw the relative variance against the stage."""
        with figure(path) as (axes,):
            for number, done in enumerate(results.values()):
                stages = done.result["stages"]
                for style, name in enumerate(ESTIMATORS):
                    axes.errorbar(
                        stages,
                        done.result["relative_variance"][name],
                        yerr=done.result["standard_error"][name],
                        **marked(style),
                        capsize=3,
                        alpha=1.0 if number == 0 else 0.45,
                        label=name if number == 0 else None,
                    )
            axes.set_xscale("symlog", linthresh=1000)
            axes.set(yscale="log", xlabel="characters of training", ylabel="relative variance")
            axes.legend(frameon=False)

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Return the relative variance of the first network at every stage."""
        if not results:
            return []
        id, done = next(iter(results.items()))
        rows = [[f"{id}: estimator", *(f"{stage:,}" for stage in done.result["stages"])]]
        for name in ESTIMATORS:
            rows.append(
                [name, *(f"{value:.3g}" for value in done.result["relative_variance"][name])]
            )
        return rows


def _ratio(done: Done, name: str) -> list[float]:
    mine, plain = (done.result["relative_variance"][each] for each in (name, "uoro"))
    return [a / b for a, b in zip(mine, plain, strict=True)]


def _list(stages: Sequence[int]) -> str:
    return ", ".join(f"{stage:,}" for stage in stages)
