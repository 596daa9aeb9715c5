"""Verdicts on made-up results, the statistics behind them, figures and the page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uoro.errors import ReproductionError
from uoro.lab.compare.curve import Curve
from uoro.lab.jobs import Done, Job, Results
from uoro.lab.reproduce import (
    EXPERIMENTS,
    Document,
    ReproductionPlan,
    report,
)
from uoro.lab.reproduce.claims import in_stretches, slope, slope_in_time
from uoro.lab.reproduce.document import read_document
from uoro.lab.reproduce.figure_1a import Figure1a
from uoro.lab.reproduce.figure_1b import Figure1b
from uoro.lab.reproduce.figure_1c import Figure1c
from uoro.lab.reproduce.figure_2a import Figure2a
from uoro.lab.reproduce.figure_2b import Figure2b
from uoro.lab.reproduce.figure_4 import Figure4
from uoro.lab.reproduce.learning import Trace
from uoro.lab.reproduce.rank_learning import RankLearning
from uoro.lab.reproduce.rank_noise import RankNoise
from uoro.lab.reproduce.section_3_4 import Section34
from uoro.monitors.student import student

PAPER = ReproductionPlan(scale="paper")
MADE = {"versions": {"uoro": "1"}, "architecture": "none", "cores": 1, "python": "3"}


# Statistics


def test_the_slope_of_a_line_is_exact_and_its_interval_covers_the_truth() -> None:
    x = list(np.linspace(0, 3, 8))
    fit = slope(x, [2 - 0.5 * each for each in x])
    assert fit.value == pytest.approx(-0.5)
    assert fit.high - fit.low < 1e-10
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        signs = generator.normal(size=20) * np.linspace(0.5, 2, 20)
        found = slope(list(np.arange(20.0)), list(0.3 * np.arange(20.0) + signs))
        covered += found.low <= 0.3 <= found.high
    assert 0.92 < covered / 400 < 0.985


@pytest.mark.parametrize("carry", [0.0, 0.9])
def test_the_interval_of_a_slope_in_time_covers_the_truth_though_neighbours_are_alike(
    carry: float,
) -> None:
    generator = np.random.default_rng(0)
    x, covered, runs = np.log(np.arange(101, 2101)), 0, 300
    signs = np.zeros((runs, len(x)))
    for t in range(1, len(x)):
        signs[:, t] = carry * signs[:, t - 1] + generator.normal(size=runs)
    for each in signs:
        fit = slope_in_time(x, 0.3 * x + each)
        covered += fit.low <= 0.3 <= fit.high
    assert 0.91 < covered / runs < 0.99
    exact = slope_in_time(x, 2.0 - 0.5 * x)
    assert exact.low == pytest.approx(-0.5)
    assert exact.high == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(4, 2.776), (10, 2.228), (20, 2.086), (100, 1.984)]
)
def test_quantiles_of_student_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=0.005)


def test_bins_average_over_stretches_in_proportion_to_time() -> None:
    times = np.arange(1, 1001)
    middles, means = in_stretches(times, times * 1.0, 1)
    assert means == [1.0, 6.0, np.mean(np.arange(11, 101)), np.mean(np.arange(101, 1001))]
    assert 300 < middles[3] < 500


@pytest.mark.parametrize("chunks", [[1000], [1] * 1000, [7] * 142 + [6], [999, 1]])
def test_a_curve_does_not_depend_on_the_chunks_it_comes_in(chunks: list[int]) -> None:
    losses = np.random.default_rng(0).normal(size=1000).tolist()
    curve, done = Curve(span=3, scale=2.0), 0
    for count in chunks:
        curve.add(losses[done : done + count])
        done += count
    points = curve.finished()
    assert (curve.first, curve.last) == (losses[0] * 2 / 3, losses[-1] * 2 / 3)
    assert points[0].item == 3
    assert points[-1].item == curve.items == 3000
    before = 0
    for point in points:
        inside = losses[before // 3 : point.item // 3]
        assert point.loss == pytest.approx(np.mean(inside) * 2 / 3)
        before = point.item
    edges = [point.item for point in points]
    assert all(b / a < 1.2 for a, b in pairwise(edges[10:]))


def test_a_trace_keeps_what_the_claims_rest_on() -> None:
    losses = np.random.default_rng(0).uniform(size=2000)
    trace = Trace(2, 10.0, 4000, 500)
    for part in np.split(losses, 8):
        trace.add(part.tolist())
    record = trace.record()
    each = losses * 5.0
    assert record["first"] == pytest.approx(each[0])
    assert record["final"] == pytest.approx(each[-1])
    assert record["last"] == pytest.approx(each[-250:].mean())
    assert record["cumulated"] == pytest.approx(each.mean())
    assert record["cumulated_loss"][-1] == pytest.approx(each.mean(), rel=1e-4)
    np.testing.assert_allclose(record["blocks"], each.reshape(200, 10).mean(1), rtol=1e-4)
    middle = len(record["items"]) // 2
    upto = record["items"][middle] // 2
    assert record["cumulated_loss"][middle] == pytest.approx(each[:upto].mean(), rel=1e-4)


# Claims


def _record(last: float, **more: Any) -> dict[str, Any]:
    record = {
        "first": 0.5,
        "final": last,
        "last": last,
        "cumulated": last,
        "items": [1, 1000, 100_000],
        "loss": [0.5, last, last],
        "cumulated_loss": [0.5, last, last],
        "blocks": [last] * 200,
    }
    return record | more


def _learned(experiment: Any, plan: ReproductionPlan, last: Callable[[Job, int], Any]) -> Results:
    """Make results up: for each run and seed the last loss, or a whole record."""
    found = {}
    for run in experiment.runs(plan):
        each = [last(run, seed) for seed in run.settings["seeds"]]
        records = [one if isinstance(one, dict) else _record(one) for one in each]
        result = {"replicas": records, "entropy_rate": 0.1, "device": "none"}
        found[run.id] = Done(run.settings, result, 1.0, MADE)
    return found


def _verdicts(experiment: Any, results: Results) -> list[str]:
    return [claim.verdict for claim in experiment.claims(results)]


def test_figure_2a_holds_only_if_every_seed_and_rate_does() -> None:
    def as_in_the_paper(run: Job, seed: int) -> float:
        estimator = run.settings["estimator"]
        return {"uoro": 1e-9, "tbptt:200": 1e-8, "tbptt:400": 1e-8}.get(estimator, 30.0)

    assert _verdicts(Figure2a(), _learned(Figure2a(), PAPER, as_in_the_paper)) == ["holds"] * 6

    def one_seed_fails(run: Job, seed: int) -> float:
        return 1e-3 if seed == 7 else as_in_the_paper(run, seed)

    assert _verdicts(Figure2a(), _learned(Figure2a(), PAPER, one_seed_fails))[0] == "does not hold"

    def one_rate_converges(run: Job, seed: int) -> float:
        slow = (
            run.settings["arguments"]["learning_rate"] == 1e-4
            and run.settings["estimator"] == "tbptt:10"
        )
        return 0.4 if slow else as_in_the_paper(run, seed)

    assert (
        _verdicts(Figure2a(), _learned(Figure2a(), PAPER, one_rate_converges))[2] == "does not hold"
    )

    def nothing_converges(run: Job, seed: int) -> float:
        return math.nan

    verdicts = _verdicts(Figure2a(), _learned(Figure2a(), PAPER, nothing_converges))
    assert verdicts == ["does not hold", "holds", "holds", "holds", "does not hold", "holds"]

    def shorter_spans_do(run: Job, seed: int) -> float:
        return 1e-7 if run.settings["estimator"] == "tbptt:150" else as_in_the_paper(run, seed)

    assert (
        _verdicts(Figure2a(), _learned(Figure2a(), PAPER, shorter_spans_do))[5] == "does not hold"
    )
    short = _learned(Figure2a(), ReproductionPlan(), one_seed_fails)
    verdicts = _verdicts(Figure2a(), short)
    assert verdicts[0] == "holds"  # the quick scale has five seeds
    assert verdicts[5] == "not decided at this scale"


def test_table_1_is_judged_at_full_length_alone() -> None:
    from uoro.lab.reproduce.figure_4 import PAPER as NUMBERS

    def as_in_the_paper(run: Job, seed: int) -> float:
        return NUMBERS[run.settings["network"]["cell"], run.settings["estimator"]]

    assert _verdicts(Figure4(), _learned(Figure4(), PAPER, as_in_the_paper)) == ["holds"] * 5
    quick = _verdicts(Figure4(), _learned(Figure4(), ReproductionPlan(), as_in_the_paper))
    assert quick == ["not decided at this scale"] * 5

    def reversed_(run: Job, seed: int) -> float:
        return 0.28 if run.settings["estimator"].startswith("uoro") else 0.16

    def one_diverges(run: Job, seed: int) -> float:
        return math.nan if run.id == "lstm uoro seed 1" else as_in_the_paper(run, seed)

    verdicts = _verdicts(Figure4(), _learned(Figure4(), PAPER, one_diverges))
    assert verdicts[0] == "does not hold"
    assert verdicts[2] == "not decided at this scale"

    verdicts = _verdicts(Figure4(), _learned(Figure4(), PAPER, reversed_))
    assert verdicts == ["does not hold"] * 5
    table = Figure4().table(_learned(Figure4(), PAPER, as_in_the_paper))
    assert len(table) == 7
    assert table[1][:2] == ["uoro", "0.147"]


def test_figure_2b_needs_every_seed_ahead_and_near_the_entropy_rate() -> None:
    def ahead(run: Job, seed: int) -> float:
        return 1.67 if run.settings["estimator"] == "uoro" else 1.95

    def behind(run: Job, seed: int) -> float:
        return 2.1 if run.settings["estimator"] == "uoro" else 1.95

    def mixed(run: Job, seed: int) -> float:
        return 1.96 if run.settings["estimator"] == "uoro" and seed == 1 else ahead(run, seed)

    def full(last: Callable[[Job, int], float]) -> Results:
        found = _learned(Figure2b(), PAPER, last)
        return {
            id: replace(done, settings=done.settings | {"items": 10**7})
            for id, done in found.items()
        }

    assert _verdicts(Figure2b(), _learned(Figure2b(), PAPER, ahead)) == ["holds"] * 4
    shorter = _verdicts(Figure2b(), _learned(Figure2b(), PAPER, behind))
    assert shorter == ["not decided at this scale"] * 4
    assert _verdicts(Figure2b(), full(behind)) == ["does not hold"] * 4
    assert _verdicts(Figure2b(), full(mixed))[0] == "does not hold"


def test_figure_1c_needs_the_largest_to_jump_and_the_smallest_not_to() -> None:
    def jumps(run: Job, seed: int) -> dict[str, Any]:
        large = (
            run.settings["network"]["units"] > 200
            and run.settings["arguments"]["learning_rate"] == 1e-2
        )
        return _record(3.0, blocks=[3.0, 4.5 if large else 3.1, 3.0])

    assert _verdicts(Figure1c(), _learned(Figure1c(), PAPER, jumps)) == ["holds", "does not hold"]
    all_jump = _learned(Figure1c(), PAPER, lambda run, seed: _record(3.0, blocks=[5.0]))
    assert _verdicts(Figure1c(), all_jump) == ["does not hold"] * 2
    diverges = _learned(Figure1c(), PAPER, lambda run, seed: _record(3.0, blocks=[3.0, math.nan]))
    assert _verdicts(Figure1c(), diverges) == ["does not hold"] * 2
    none = _learned(Figure1c(), ReproductionPlan(), lambda run, seed: _record(3.0))
    assert _verdicts(Figure1c(), none) == ["not decided at this scale"] * 2


def _along(variance: Callable[[np.ndarray[Any, Any]], Any], error: float = 1.0) -> Results:
    (run,) = Figure1a().runs(PAPER)
    times = np.arange(2, 10_001)
    signs = np.exp(np.random.default_rng(0).normal(size=len(times)))
    values = variance(times) * signs
    chance = np.random.default_rng(1).exponential(size=len(times))
    result = {
        "runs": 100,
        "training_loss": 2.5,
        "relative_variance": values.tolist(),
        "mean_error": (error * chance * values / 100).tolist(),
    }
    return {run.id: Done(run.settings, result, 1.0, MADE)}


def test_figure_1a_tells_a_level_from_growth_and_bias_from_none() -> None:
    assert _verdicts(Figure1a(), _along(lambda t: 50.0 + 0 * t)) == ["holds", "holds"]
    assert _verdicts(Figure1a(), _along(lambda t: t**0.5)) == ["does not hold", "holds"]
    biased = _along(lambda t: 50.0 + 0 * t, error=3.0)
    assert _verdicts(Figure1a(), biased) == ["holds", "does not hold"]
    assert [row[0] for row in Figure1a().table(biased)[1:4]] == [
        "10 to 100",
        "100 to 1,000",
        "1,000 to 10,000",
    ]


def test_figure_1b_tells_growth_from_shrinking() -> None:
    def made(power: float) -> Results:
        generator = np.random.default_rng(0)
        return {
            run.id: Done(
                run.settings,
                {
                    "relative_variance": run.settings["network"]["units"] ** power
                    * math.exp(0.2 * generator.normal()),
                    "standard_error": 0.1,
                },
                1.0,
                MADE,
            )
            for run in Figure1b().runs(PAPER)
        }

    assert max(run.settings["network"]["units"] for run in Figure1b().runs(PAPER)) == 1024
    assert _verdicts(Figure1b(), made(0.5)) == ["holds"]
    assert _verdicts(Figure1b(), made(-0.5)) == ["does not hold"]
    assert _verdicts(Figure1b(), made(0.0)) == ["not decided at this scale"]


def test_section_3_4_judges_rank_at_every_stage_and_memory_at_the_first() -> None:
    def made(rank: float, memory: float) -> Results:
        found = {}
        for run in Section34().runs(PAPER):
            count = len(run.settings["stages"])
            values = {
                "uoro": 1.0,
                "uoro:rank=2": rank,
                "uoro:memory=2": memory,
                "uoro:memory=16": memory,
            }
            result = {
                "stages": run.settings["stages"],
                "relative_variance": {name: [value] * count for name, value in values.items()},
                "standard_error": {name: [0.1] * count for name in values},
            }
            found[run.id] = Done(run.settings, result, 1.0, MADE)
        return found

    assert _verdicts(Section34(), made(0.5, 0.3)) == ["holds", "holds"]
    assert _verdicts(Section34(), made(1.1, 1.2)) == ["does not hold", "does not hold"]
    assert _verdicts(Section34(), made(0.9, 0.9)) == ["does not hold"] * 2


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.name)
def test_without_results_nothing_is_decided(experiment: Any) -> None:
    assert set(_verdicts(experiment, {})) == {"not decided at this scale"}
    assert len(experiment.table({})) <= 7


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.name)
@pytest.mark.parametrize("plan", [ReproductionPlan(), PAPER], ids=lambda plan: plan.scale)
def test_runs_have_ids_of_their_own_and_settings_that_json_can_say(
    experiment: Any, plan: ReproductionPlan
) -> None:
    runs = experiment.runs(plan)
    assert len({run.id for run in runs}) == len(runs)
    for run in runs:
        assert json.loads(json.dumps(run.settings)) == run.settings
        assert run.cost > 0
    assert len(experiment.runs(replace(plan, seeds=7))) >= len(
        experiment.runs(replace(plan, seeds=1))
    )


def _one_in_three_diverges(run: Job, seed: int) -> dict[str, Any]:
    if seed == 1 or run.settings["estimator"].startswith("tbptt:1"):
        return _record(math.nan, blocks=[1.0, math.inf, math.nan])
    return _record(1.8)


@pytest.mark.parametrize(
    ("experiment", "results"),
    [
        (Figure2a(), _learned(Figure2a(), ReproductionPlan(), _one_in_three_diverges)),
        (Figure2b(), _learned(Figure2b(), ReproductionPlan(), _one_in_three_diverges)),
        (Figure4(), _learned(Figure4(), ReproductionPlan(), _one_in_three_diverges)),
        (Figure1c(), _learned(Figure1c(), ReproductionPlan(), _one_in_three_diverges)),
        (Figure2a(), _learned(Figure2a(), ReproductionPlan(), lambda run, seed: 1e-3)),
        (Figure2b(), _learned(Figure2b(), ReproductionPlan(), lambda run, seed: 1.8)),
        (Figure4(), _learned(Figure4(), ReproductionPlan(), lambda run, seed: 0.2)),
        (Figure1c(), _learned(Figure1c(), ReproductionPlan(), lambda run, seed: 3.0)),
        (Figure1a(), _along(lambda t: 5.0 + 0 * t)),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_figures_are_drawn_and_the_page_names_them(
    experiment: Any, results: Results, tmp_path: Path
) -> None:
    path = tmp_path / f"{experiment.name}.png"
    experiment.draw(results, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    runs = [Job(id, "learning", done.settings, 1.0) for id, done in results.items()]
    document = Document(tmp_path / f"{experiment.name}.json", experiment, runs)
    document.results = results
    document.write()
    read, missing = read_document(document.path)
    assert missing == 0
    assert experiment.claims(read) == experiment.claims(results)
    page = report(tmp_path, tmp_path / "page.md")
    assert f"]({experiment.name}.png)" in page
    for claim in experiment.claims(results):
        assert claim.sentence in page
        assert claim.support in page


def test_a_folder_without_results_makes_no_page(tmp_path: Path) -> None:
    with pytest.raises(ReproductionError, match="expected results, got none"):
        report(tmp_path, tmp_path / "page.md")


def test_the_page_in_the_documents_is_made_from_the_files_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    page = Path("docs/reproduction.md")
    assert report(Path("docs/reproduction"), page) == page.read_text(encoding="utf-8")


def test_rank_noise_judges_every_rank_above_one_by_the_ends_of_the_intervals() -> None:
    def made(ratio: float, error: float, last: float) -> Results:
        found = {}
        for run in RankNoise().runs(PAPER):
            count, units = len(run.settings["stages"]), run.settings["network"]["units"]
            values = {"uoro:rank=1": 1.0, "uoro:rank=1,reduction=optimal": 1.1}
            for rank in (2, 4, 8, 16):
                values[f"uoro:rank={rank}"] = 1.0 / rank
                optimal = last if rank == units else ratio / rank
                values[f"uoro:rank={rank},reduction=optimal"] = optimal
                values[f"uoro:rank={rank},reduction=optimal,scaling=rows"] = ratio * optimal
            result = {
                "stages": run.settings["stages"],
                "relative_variance": {name: [value] * count for name, value in values.items()},
                "standard_error": {name: [error * v] * count for name, v in values.items()},
            }
            found[run.id] = Done(run.settings, result, 1.0, MADE)
        return found

    assert _verdicts(RankNoise(), made(0.8, 0.01, 1e-30)) == ["holds"] * 4
    assert _verdicts(RankNoise(), made(1.2, 0.01, 0.1)) == ["does not hold"] * 4
    undecided = "not decided at this scale"
    assert _verdicts(RankNoise(), made(0.8, 0.2, 1e-30)) == [
        undecided,
        undecided,
        "holds",
        undecided,
    ]
    table = RankNoise().table(made(0.8, 0.01, 1e-30))
    assert table[1][:4] == ["tanh, 16 units", "0", "independent", "1 ± 0.02"]
    assert table[2][-1] == "0"


def test_rank_noise_draws_each_stage_and_the_gru(tmp_path: Path) -> None:
    result = {
        "stages": [0, 100_000],
        "relative_variance": {"uoro:rank=4": [1.0, 2.0], "uoro:rank=4,reduction=optimal": [0, 1.0]},
        "standard_error": {"uoro:rank=4": [0.1, 0.1], "uoro:rank=4,reduction=optimal": [0.0, 0.1]},
    }
    runs = RankNoise().runs(PAPER)[::5]
    results = {run.id: Done(run.settings, result, 1.0, MADE) for run in runs}
    RankNoise().draw(results, tmp_path / "folder" / "figure.png")
    assert (tmp_path / "folder" / "figure.png").read_bytes().startswith(b"\x89PNG")


def _ranks_learned(
    slower: float, blocks: Callable[[str], list[float]], floor: float = 0.15
) -> Results:
    """Make up what ranks learn: joint ranks take so many times as long as rank 1."""
    found = {}
    for run in RankLearning().runs(PAPER):
        if run.kind == "time by estimator":
            names = run.settings["estimators"]
            times = {name: [1e-5 * (slower if "optimal" in name else 1.0)] * 3 for name in names}
            result: dict[str, Any] = {"device": "none", "seconds_per_item": times}
        else:
            each = blocks(run.settings["estimator"])
            last = floor if "tbptt" in run.settings["estimator"] else each[-1]
            records = [_record(last, blocks=each)]
            result = {"replicas": records, "entropy_rate": 0.1, "device": "none"}
        found[run.id] = Done(run.settings, result, 1.0, MADE)
    return found


def test_rank_learning_judges_by_characters_and_by_seconds() -> None:
    def sooner(estimator: str) -> list[float]:
        return [0.16] * 200 if "optimal" in estimator else [0.3] * 199 + [0.17]

    def later(estimator: str) -> list[float]:
        return [0.3] * 100 + [0.16] * 100 if "optimal" in estimator else [0.17] * 200

    assert _verdicts(RankLearning(), _ranks_learned(5.0, sooner)) == ["holds"] * 7 + [
        "does not hold"
    ]
    slow = _verdicts(RankLearning(), _ranks_learned(80.0, sooner))
    assert slow[:4] == ["holds", "does not hold"] * 2
    late = _verdicts(RankLearning(), _ranks_learned(2.0, later))
    assert late[:4] == ["does not hold", "holds"] * 2
    worse = _verdicts(RankLearning(), _ranks_learned(5.0, lambda _: [0.2] * 200, floor=0.14))
    assert worse[4:] == ["does not hold"] * 4

    def only_scaled(estimator: str) -> list[float]:
        return sooner(estimator) if "scaling" in estimator else later(estimator)

    one = _verdicts(RankLearning(), _ranks_learned(2.0, only_scaled))
    assert one[:4] == ["does not hold", "holds", "holds", "holds"]
    table = RankLearning().table(_ranks_learned(5.0, sooner))
    assert table[1][:4] == ["anbn", "GRU", "uoro", "10"]


def test_rank_learning_draws_every_task_and_cell(tmp_path: Path) -> None:
    results = _ranks_learned(5.0, lambda _: [0.3 - 0.0005 * i for i in range(200)])
    RankLearning().draw(results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
