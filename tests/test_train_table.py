"""Runs on tables: judged as a model in use, resumed bit for bit, and used on another table."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import begin, command, go_on, outcome, require_same

from uoro import SGD, UORO, Learner, load_backend
from uoro.monitors.prequential import JUDGED, Prequential
from uoro.tasks import Network, table
from uoro.training import read_metrics, read_status
from uoro.training.predicting import Predictor

ROWS = 260


def _write(path: Path, first: int = 0, rows: int = ROWS) -> Path:
    generator = np.random.default_rng(1)
    lines = ["when,warm,load,wind"]
    for i in range(first + rows):
        warm = 20 + 3 * np.sin(i / 9) + 0.2 * generator.normal()
        cells = [f"{warm:.4f}", f"{generator.normal():.3f}", "NSW"[int(generator.integers(3))]]
        cells = ["" if generator.random() < 0.1 else cell for cell in cells]
        day, minute = divmod(10 * i, 1440)
        if i >= first:
            when = f"2024-01-{day + 1:02}T{minute // 60:02}:{minute % 60:02}:00"
            lines.append(",".join([when, *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    return _write(tmp_path / "readings.csv")


@pytest.fixture(autouse=True)
def _fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uoro.tasks.growing.PAUSE", 0.005)
    if "figure" not in request.node.name:
        monkeypatch.setattr("uoro.training.record.draw_runs", lambda path, runs: None)
        monkeypatch.setattr("uoro.training.record.draw_forecast", lambda path, title, scores: None)


def _table(path: Path, **over: Any) -> dict[str, Any]:
    options = {"paths": [str(path)], "target": "warm,load", "horizon": 4} | over.pop("options", {})
    return {"task": "table", "options": options, "steps": None} | over


@pytest.mark.parametrize("horizon", [1, 5])
def test_predictions_are_judged_as_a_model_in_use_makes_them(readings: Path, horizon: int) -> None:
    task: Any = table(readings, "warm", horizon, network=Network("rnn", 3))
    backend = load_backend("autograd")
    generator = np.random.default_rng(0)
    params, state = task.model.init(generator)
    params["readout"]["map"] = generator.normal(size=params["readout"]["map"].shape)
    items = task.stream(0).take(60)
    rows = len(items["target"])
    each = [{name: part[i] for name, part in items.items()} for i in range(rows)]

    def learner(estimator: Any) -> Learner:
        return Learner(task.dynamics(backend), estimator, SGD(0.05), params, state, seed=3)

    judged, plain = learner(Prequential(UORO(), horizon, 1, rows)), learner(UORO())
    losses, used, made = [], state, []
    for item in each:
        # The model in use reads the row before, with what was learned up to it.
        used, predicted = task.model.predict(np, plain.params, used, item["newest"])
        made.append(predicted)
        plain.step(item)
        losses.append(float(judged.step(item).loss))
    for name, leaf in backend.named_leaves(plain.params):
        np.testing.assert_array_equal(dict(backend.named_leaves(judged.params))[name], leaf)
    kept = {name: judged.carry.judged[:, i] for i, name in enumerate(JUDGED)}
    for name in JUDGED[1:]:
        np.testing.assert_array_equal(kept[name], items[name])
    behind = horizon - 1
    np.testing.assert_allclose(kept["predicted"][behind:], made[: rows - behind], rtol=1e-12)
    wanted = items["weight"] * (kept["predicted"] - items["target"]) ** 2
    np.testing.assert_allclose(losses, wanted.sum(1), rtol=1e-12)
    assert np.ptp(kept["predicted"][behind:]) > 0.1


@pytest.mark.parametrize(
    ("backend", "estimator"),
    [("autograd", "uoro"), ("autograd", "tbptt:3"), ("torch", "tbptt:4,rolling"), ("jax", "uoro")],
)
def test_a_run_that_stops_goes_on_bit_for_bit(
    tmp_path: Path, readings: Path, backend: str, estimator: str
) -> None:
    eager = {"autograd": None, "torch": 60}
    over = _table(readings, backend=backend, estimator=estimator, steps=eager.get(backend))
    if backend == "jax":
        over["options"] |= {"laps": 2}
    ended = begin(tmp_path / "whole", **over)
    assert ended.reason == ("60 steps are done" if over["steps"] else "the stream has ended")
    for number, stop in enumerate((23, 50, None) if backend == "autograd" else (33, None)):
        if number:
            go_on(tmp_path / "stopped", stop_at=stop)
        else:
            begin(tmp_path / "stopped", stop_at=stop, **over)
    require_same(tmp_path / "whole", tmp_path / "stopped")
    one, two = (outcome(tmp_path / name)["document"] for name in ("whole", "stopped"))
    assert one["scores"] == two["scores"]
    assert one["settings"] == two["settings"]


def test_a_run_says_how_good_it_is_in_the_units_of_its_targets(
    tmp_path: Path, readings: Path
) -> None:
    ended = begin(tmp_path / "run", **_table(readings, metrics={"every": 7, "recent": 10_000}))
    status = read_status(tmp_path / "run")
    task = table(readings, "warm,load", 4)
    stream: Any = task.stream(0)
    parts = []
    while (items := stream.take(50)) is not None:
        parts.append(items)
    known, change = (
        np.concatenate([part[name] for part in parts]) for name in ("weight", "change")
    )
    persistence = np.sqrt((change**2).sum(0) / known.sum(0))
    for place, name in enumerate(("warm", "load")):
        assert status[f"{name}/persistence_all"] == pytest.approx(persistence[place], rel=1e-6)
        assert 0 < status[f"{name}/mae_all"] < status[f"{name}/rmse_all"] < 2 * persistence[place]
    assert status["gaps"] == stream.counts["gaps"]
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert last["warm/rmse"] == pytest.approx(status["warm/rmse"])
    assert last["persistence"] == pytest.approx(1.0, abs=0.3)
    assert ended.remarks[0].startswith("warm: error")
    assert ended.remarks[2] == f"counted: rows {ROWS}, gaps {status['gaps']}"


def test_a_growing_table_is_learned_from_as_if_it_had_been_there(
    tmp_path: Path, readings: Path
) -> None:
    grows = tmp_path / "grows.csv"
    text = readings.read_text()
    grows.write_text(text[:3001])
    over = {"backend": "autograd", "stall": 0.05, "dtype": "float64"}
    follow = {"follow": True}
    ended = begin(tmp_path / "run", **_table(grows, options=follow, **over))
    assert (ended.state, ended.reason) == ("stopped", "no input for 0.05 s")
    grows.write_text(text)
    assert go_on(tmp_path / "run").state == "stopped"
    columns = outcome(tmp_path / "run")["document"]["settings"]["options"]["columns"]
    begin(tmp_path / "whole", **_table(readings, options={"columns": columns}, **over))
    one, two = (outcome(tmp_path / name) for name in ("run", "whole"))
    for name, array in one["arrays"].items():
        np.testing.assert_array_equal(array, two["arrays"][name], name)
    assert one["document"]["scores"] == two["document"]["scores"]


def test_standard_input_is_learned_from_and_taken_up(tmp_path: Path, readings: Path) -> None:
    over = {"steps": 30, "backend": "autograd"}
    begin(tmp_path / "whole", **_table(readings, **over | {"steps": 60}))
    before = os.dup(0)
    try:
        for number in range(2):
            reading, writing = os.pipe()
            os.write(writing, readings.read_bytes())
            os.close(writing)
            os.dup2(reading, 0)
            os.close(reading)
            if number:
                go_on(tmp_path / "run", **_table(Path("-"), **over | {"steps": 60}))
            else:
                begin(tmp_path / "run", **_table(Path("-"), **over))
    finally:
        os.dup2(before, 0)
        os.close(before)
    one, two = (outcome(tmp_path / name) for name in ("run", "whole"))
    for name, array in one["arrays"].items():
        np.testing.assert_array_equal(array, two["arrays"][name], name)


def test_a_trained_run_predicts_another_table_learning_or_not(
    tmp_path: Path, readings: Path
) -> None:
    folder = tmp_path / "run"
    later = _write(tmp_path / "later.csv", ROWS, 40)
    still = {"name": "sgd", "learning_rate": 1e-30, "schedule": "constant"}
    begin(folder, **_table(readings, optimizer=still, dtype="float64", estimator="tbptt:3"))
    parts = {
        name: [np.concatenate(each) for each in zip(*run(), strict=True)]
        for name, run in (
            ("still", Predictor(folder, [str(later)]).predict),
            ("learning", Predictor(folder, [str(later)]).learn),
        )
    }
    for one, two in zip(*parts.values(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12)
    times, values, predicted = parts["still"]
    assert predicted.shape == (44, 2)
    assert np.isnan(predicted[:4]).all()
    assert np.isfinite(predicted[4:]).all()
    assert np.isnan(times[40:]).all()
    cells = [line.split(",")[1] for line in later.read_text().splitlines()[1:]]
    np.testing.assert_array_equal(values[:40, 0], [float(cell or "nan") for cell in cells])
    # A readout of zero predicts the last known value.
    known = [max(i for i in range(t + 1) if cells[i]) for t in range(3, 40)]
    np.testing.assert_allclose(predicted[7:, 0], [float(cells[i]) for i in known], rtol=1e-9)


def test_commands_take_a_path_and_draw_a_figure(
    tmp_path: Path, readings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--target", "warm", "--horizon", "4", "--units", "3", "--learning-rate", "0.01")
    done = command(
        "train", "readings.csv", *flags, "--backend", "autograd", "--estimator", "tbptt:2"
    )
    assert done.status == 0, done.errors
    assert "warm of readings.csv, 4 rows ahead" in done.output
    assert "persistence" in done.output
    run = tmp_path / "runs" / "readings-1"
    for name in ("curve.png", "forecast.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    later = _write(tmp_path / "later.csv", ROWS, 20)
    plain = command("predict", run, "--file", later)
    learned = command("predict", run, "--file", later, "--learn", "--out", tmp_path / "p" / "p.csv")
    assert (plain.status, learned.status) == (0, 0), plain.errors + learned.errors
    rows = list(csv.reader(plain.output.splitlines()))
    others = list(csv.reader((tmp_path / "p" / "p.csv").read_text().splitlines()))
    assert rows[0] == others[0] == ["row", "when", "warm", "warm predicted"]
    assert len(rows) == len(others) == 1 + 20 + 4
    assert rows[1][:2] == ["1", "2024-01-02 19:20:00"]
    assert rows[-1][:3] == ["24", "", ""]
    assert [row[2] for row in rows] == [row[2] for row in others]
    assert rows[10][3] != others[10][3]
    assert abs(float(rows[10][3]) - float(others[10][3])) < 1.0
    refused = command("train", "readings.csv", "--target", "warn")
    assert refused.status == 2
    wanted = "readings.csv': there is no column for target 'warn'. Did you mean 'warm'?"
    assert wanted in refused.errors
    assert refused.errors.startswith("uoro: --file '")
    assert command("compare", "x" * 5000).errors.startswith("uoro: compare")
    refused = command("train", "readings.csv", "--target", "warm", "--on-nonfinite", "skip")
    assert "Try --on-nonfinite reset" in refused.errors or "on_nonfinite='reset'" in refused.errors
    refused = command("predict", tmp_path, "--file", later)
    assert "there is no run in this folder" in refused.errors


def test_compare_shows_persistence_and_the_window(tmp_path: Path, readings: Path) -> None:
    flags = ("--target", "warm", "--horizon", "2", "--units", "3", "--model", "rnn")
    names = ("--backends", "autograd", "--estimators", "uoro,tbptt:4,rolling")
    done = command("compare", readings, *flags, *names, "--steps", "400", "--out", tmp_path / "c")
    assert done.status == 0, done.errors
    assert re.search(r"tbptt:4,rolling +2\d\d of 400", done.output)
    assert "the stream has ended" in done.output
    assert re.search(r"persistence, the last known value: recent [01]\.\d", done.output)
    assert re.search(r"error of warm: .*\(uoro, autograd\).*persistence 0\.\d", done.output)
    assert "in the" in done.output
