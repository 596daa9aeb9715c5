"""What a training run writes beside its checkpoints, and what is made of it."""

from __future__ import annotations

import builtins
import errno
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from uoro.checkpoint import run_lock
from uoro.cli import app as app_module
from uoro.cli.runs import plot_runs, show_runs
from uoro.errors import (
    CheckpointError,
    MissingFrameworkError,
    SettingError,
    StructureError,
    UnknownNameError,
)
from uoro.models import GRU, LSTM, SymbolModel, Tanh
from uoro.models.layers import softmax_loss
from uoro.training import (
    MetricsLog,
    TensorBoardWriter,
    draw_runs,
    list_runs,
    read_curve,
    read_metrics,
    read_status,
    sample,
    unflatten,
    write_status,
)


def _record(step: int) -> dict[str, Any]:
    return {"step": step, "items": 10 * step, "loss": 1.0 / (step + 1), "recent": 0.5}


def _log(path: Path, steps: int) -> MetricsLog:
    log = MetricsLog(path)
    for step in range(steps):
        log.write(_record(step))
    return log


# The log.


def test_records_come_back_with_every_number(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write({"step": 1, "loss": 0.1 + 0.2, "recent": math.inf, "norm": -math.inf, "é": "ü\n"})
    log.write({"step": np.int64(2), "loss": np.float32(0.5), "worst": [math.nan]})
    first, second = read_metrics(path)
    assert first == {
        "step": 1, "loss": 0.1 + 0.2, "recent": math.inf, "norm": -math.inf, "é": "ü\n",
    }  # fmt: skip
    assert (second["step"], second["loss"], math.isnan(second["worst"][0])) == (2, 0.5, True)
    assert len(path.read_bytes().splitlines()) == 2
    for line in path.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_what_json_cannot_say_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for value in (object(), np.ones(2), {1, 2}):
        with pytest.raises(
            StructureError, match="expected numbers, text, or lists and dictionaries"
        ):
            log.write({"step": 1, "value": value})
    assert not log.path.exists()


def test_a_torn_last_line_is_passed_over_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _log(path, 3)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert [record["step"] for record in read_metrics(path)] == [0, 1]
        MetricsLog(path).write(_record(7))
        assert [record["step"] for record in read_metrics(path)] == [0, 1, 7]
    path.write_bytes(whole[:last] + bytes(50))
    assert len(read_metrics(path)) == 2


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff\xfe", b'{"a": 1}}', b"[" * 100_000])
def test_a_damaged_line_elsewhere_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    _log(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line + b"\n" + lines[2])
    for call in (lambda: read_metrics(path), lambda: MetricsLog(path).truncate_after(5)):
        with pytest.raises(CheckpointError, match=r"line 2 is damaged.*Remove that line"):
            call()
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_metrics(tmp_path / "none")


def test_records_of_later_steps_are_dropped_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = _log(path, 6)
    log.write({"event": "skipped", "step": 4})
    log.write({"event": "note"})
    with open(path, "ab") as file:
        file.write(b'{"step": 1, "lo')
    log = MetricsLog(path)
    log.truncate_after(3)
    assert [record.get("step") for record in read_metrics(path)] == [0, 1, 2, 3, None]
    log.write(_record(4))
    assert [record.get("step") for record in read_metrics(path)] == [0, 1, 2, 3, None, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    MetricsLog(tmp_path / "none").truncate_after(3)
    assert not (tmp_path / "none").exists()


def test_lines_wait_in_memory_while_the_disk_is_full_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    log = _log(path, 2)
    real = os.write

    def a_little(handle: int, data: Any) -> int:
        real(handle, bytes(data)[: len(data) // 4])
        raise OSError(errno.ENOSPC, "No space left on device")

    with caplog.at_level(logging.WARNING, "uoro"), monkeypatch.context() as patch:
        patch.setattr(os, "write", a_little)
        for step in (2, 3, 4):
            log.write(_record(step))
        assert (log.failures, log.waiting) == (3, 3)
        (message,) = caplog.messages
        assert "cannot be written: No space left on device" in message
        assert len(read_metrics(path)) == 2
    log.write(_record(5))
    assert (log.failures, log.waiting) == (3, 0)
    assert [record["step"] for record in read_metrics(path)] == [0, 1, 2, 3, 4, 5]


def test_a_process_that_is_killed_loses_no_line_that_was_written(tmp_path: Path) -> None:
    code = (
        "import os, sys; from uoro.training import MetricsLog; log = MetricsLog(sys.argv[1])\n"
        "for step in range(50): log.write({'step': step})\n"
        "os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert len(read_metrics(path)) == 50


# The status, and the list of runs.


def _status(state: str, **more: Any) -> dict[str, Any]:
    return {
        "state": state, "step": 1200, "items": 12000, "steps_wanted": 5000, "recent": 1.25,
        "cumulated": 1.5, "updated": "2020-01-01T00:00:00+00:00", "loss_name": "loss (bits)",
        "entropy_rate": 0.3, "title": "a task", "backend": "jax", "estimator": "uoro",
    } | more  # fmt: skip


def test_a_status_comes_back_and_is_never_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = _status("running", recent=math.inf)
    write_status(tmp_path, status)
    assert read_status(tmp_path) == {"format": 1} | status

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(CheckpointError, match="cannot be written: No space left"):
            write_status(tmp_path, _status("done"))
    assert read_status(tmp_path)["state"] == "running"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(StructureError, match="expected numbers, text, or lists and dictionaries"):
        write_status(tmp_path, {"state": object()})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"", "is damaged"),
        (b"[]", "is damaged: expected an object"),
        (b"\xff", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'{"format": 2}', "expected run.json in format 1.*got format 2.*newer uoro"),
    ],
)
def test_a_damaged_status_is_refused(tmp_path: Path, written: bytes, message: str) -> None:
    (tmp_path / "run.json").write_bytes(written)
    with pytest.raises(CheckpointError, match=message):
        read_status(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_status(tmp_path / "none")


def _make_runs(folder: Path) -> None:
    for name, state in (("done", "done"), ("deep/er", "running"), ("live", "running")):
        (folder / name).mkdir(parents=True)
        write_status(folder / name, _status(state))
    (folder / "bad").mkdir()
    (folder / "bad" / "run.json").write_text("{")
    (folder / "done" / "checkpoints").mkdir()
    (folder / "no-run").mkdir()


def test_every_run_is_listed_and_those_killed_are_told_from_those_at_work(tmp_path: Path) -> None:
    _make_runs(tmp_path)
    with run_lock(tmp_path / "live"):
        before = sorted(path for path in tmp_path.rglob("*"))
        entries = list_runs(tmp_path)
        assert sorted(path for path in tmp_path.rglob("*")) == before
    assert [(entry.name, entry.state) for entry in entries] == [
        ("bad", "unreadable"), ("deep/er", "killed"), ("done", "done"), ("live", "running"),
    ]  # fmt: skip
    assert {entry.name: entry.state for entry in list_runs(tmp_path)}["live"] == "killed"
    (alone,) = list_runs(tmp_path / "done")
    assert (alone.name, alone.status["step"]) == ("done", 1200)
    with pytest.raises(CheckpointError, match="there is no such folder"):
        list_runs(tmp_path / "none")


def test_the_table_says_how_each_run_stands(tmp_path: Path) -> None:
    _make_runs(tmp_path)
    console = Console(width=130, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        show_runs(console, tmp_path)
    printed = console.export_text()
    (row,) = (line.split() for line in printed.splitlines() if line.strip().startswith("deep/er"))
    assert row[:7] == ["deep/er", "killed", "1,200", "of", "5,000", "1.25", "1.5"]
    assert row[-1] == "d"
    assert "bad: read_status(" in printed


# Curves and figures.


def _run_folder(folder: Path, *, scale: float = 1.0, monitors: bool = False) -> Path:
    folder.mkdir(parents=True)
    write_status(folder, _status("done"))
    log = MetricsLog(folder / "metrics.jsonl")
    for step in range(1, 60):
        extra: dict[str, Any] = {}
        if monitors and step % 3 == 0:
            extra = {
                "pair/norm": 10.0**step, "radius": 1.0, "shadow/cosine": 0.5,
                "shadow/bias": 0.1, "shadow/bias_low": -0.1, "shadow/bias_high": math.nan
                if step == 6 else 0.3,
            }  # fmt: skip
        loss = math.nan if step == 20 else scale / step
        log.write({"step": step, "items": 10 * step, "loss": loss, "recent": scale / step} | extra)
        if step in (10, 30):
            log.write({"event": "skipped", "step": step})
    log.write({"event": "something new", "step": 60, "items": 600})
    return folder


def test_a_curve_holds_what_was_written_by_items(tmp_path: Path) -> None:
    curve = read_curve(_run_folder(tmp_path / "run", monitors=True))
    assert curve.column("recent").items.tolist() == [10.0 * step for step in range(1, 60)]
    assert curve.column("recent").values.tolist() == [1.0 / step for step in range(1, 60)]
    assert math.isnan(curve.column("loss").values[19])
    assert [(event.items, event.kind) for event in curve.events] == [
        (100.0, "skipped"), (300.0, "skipped"), (600.0, "something new"),
    ]  # fmt: skip
    assert curve.entropy_rate == 0.3
    assert curve.monitors == [
        "pair/norm", "radius", "shadow/bias", "shadow/bias_high", "shadow/bias_low",
        "shadow/cosine",
    ]  # fmt: skip


def _figure_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_runs_are_drawn_together_and_monitors_have_panels_of_their_own(tmp_path: Path) -> None:
    runs = [
        _run_folder(tmp_path / "one" / "run", monitors=True),
        _run_folder(tmp_path / "two" / "run", scale=1e30),
        tmp_path / "empty",
    ]
    runs[2].mkdir()
    (runs[2] / "metrics.jsonl").write_text("")
    draw_runs(tmp_path / "out" / "plain.png", runs)
    _, height = _figure_size(tmp_path / "out" / "plain.png")
    draw_runs(tmp_path / "more.png", runs, monitors=["pair", "radius", "shadow"])
    assert _figure_size(tmp_path / "more.png")[1] > 1.8 * height
    draw_runs(tmp_path / "empty.png", runs[2:])
    with pytest.raises(UnknownNameError, match=r"no monitor 'radus'\. Did you mean 'radius'\?"):
        draw_runs(tmp_path / "no.png", runs, monitors=["radus"])
    with pytest.raises(CheckpointError, match="there is no such file"):
        draw_runs(tmp_path / "no.png", [tmp_path])
    with pytest.raises(SettingError, match="expected one folder or more, got none"):
        draw_runs(tmp_path / "no.png", [])
    assert not (tmp_path / "no.png").exists()


def test_the_commands_list_and_draw_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _run_folder(Path("runs/first"), monitors=True)
    _run_folder(Path("runs/deep/second"))
    runner = CliRunner()
    listed = runner.invoke(app_module.app, ["runs"])
    assert listed.exit_code == 0, listed.output
    assert "first" in listed.output
    assert "deep/second" in listed.output
    drawn = runner.invoke(app_module.app, ["plot", "runs/first", "--monitors", "radius,pair"])
    assert drawn.output == "Written: runs/first/curve.png\n"
    drawn = runner.invoke(app_module.app, ["plot", "runs"])
    assert drawn.output == "Written: runs.png\n"
    assert _figure_size(Path("runs/first/curve.png"))[1] > _figure_size(Path("runs.png"))[1]
    empty = runner.invoke(app_module.app, ["runs", "runs/first/none"])
    assert isinstance(empty.exception, CheckpointError)
    Path("empty").mkdir()
    assert runner.invoke(app_module.app, ["runs", "empty"]).output == "No run in empty.\n"


def test_a_figure_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    run = _run_folder(tmp_path / "run")
    console = Console(quiet=True)
    (tmp_path / "file").write_text("")
    for out, error, message in (
        (tmp_path / "a.svg", SettingError, "expected the name of a PNG"),
        (tmp_path / "file" / "a.png", CheckpointError, "cannot be written: "),
    ):
        with pytest.raises(error, match=message):
            plot_runs(console, [run], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="expected a run that has written metrics, got none"):
        plot_runs(console, [tmp_path / "empty"])


# TensorBoard.


def test_scalars_are_written_for_tensorboard(tmp_path: Path) -> None:
    with TensorBoardWriter(tmp_path / "events") as writer:
        writer.write(3, {"loss": 0.5, "event": "skipped", "recent": math.nan})
        writer.flush()
    (written,) = (tmp_path / "events").iterdir()
    assert b"loss" in written.read_bytes()
    assert b"recent" not in written.read_bytes()


def test_a_full_disk_leaves_tensorboard_behind_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TensorBoardWriter(tmp_path / "events")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer._writer._py_recordio_writer.write = full
    with caplog.at_level(logging.WARNING, "uoro"):
        for step in range(30):
            writer.write(step, {"loss": 0.5})
        writer.close()
    (said,) = (record.message for record in caplog.records)
    assert "No space left on device" in said
    (tmp_path / "file").touch()
    TensorBoardWriter(tmp_path / "file").write(1, {"loss": 0.5})


def test_tensorboard_that_is_not_installed_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(module: str, *rest: Any, **options: Any) -> Any:
        if module.partition(".")[0] == "tensorboardX":
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(module, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingFrameworkError, match=r"pip install 'uoro\[tensorboard\]'"):
        TensorBoardWriter(tmp_path)


# Sampling.


def _counting_model() -> tuple[SymbolModel, Any, Any]:
    """Make a model that surely predicts the next of five symbols: a one-layer tanh by hand."""
    model = SymbolModel((Tanh(5),), 5)
    following = np.roll(np.eye(5), 1, axis=1)  # row i is symbol i + 1
    params = {
        "0": {"input": 20.0 * (2 * following - 1), "recurrent": np.zeros((5, 5)),
              "bias": np.zeros(5)},
        "readout": {"map": 30.0 * np.eye(5), "bias": np.zeros(5)},
    }  # fmt: skip
    return model, params, {"0": {"h": np.zeros(5)}}


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1.0])
def test_a_model_that_is_sure_writes_what_it_is_sure_of(temperature: float) -> None:
    model, params, state = _counting_model()
    written = sample(model, params, state, [0, 3], count=7, temperature=temperature, seed=3)
    assert written.tolist() == [4, 0, 1, 2, 3, 4, 0]


def test_symbols_are_drawn_with_the_predicted_probabilities() -> None:
    # Readout and nothing else: the same probabilities whatever was read.
    model, params, state = _counting_model()
    logits = np.log([0.1, 0.2, 0.3, 0.4, 1e-9])
    params["readout"] = {"map": np.zeros((5, 5)), "bias": logits}
    for temperature in (1.0, 0.5):
        wanted = np.exp(logits / temperature)
        wanted /= wanted.sum()
        drawn = sample(model, params, state, [0], count=20_000, temperature=temperature, seed=1)
        found = np.bincount(drawn, minlength=5) / 20_000
        # Five standard deviations of the worst of them.
        assert np.abs(found - wanted).max() < 5 * 0.5 / math.sqrt(20_000), (found, wanted)
    first = sample(model, params, state, [0], count=50, seed=1)
    assert first.tolist() == sample(model, params, state, [0], count=50, seed=1).tolist()
    assert first.tolist() != sample(model, params, state, [0], count=50, seed=2).tolist()


@pytest.mark.parametrize("cell", [Tanh(6), GRU(6), LSTM(6)])
def test_predicting_is_what_the_transition_takes_its_loss_from(cell: Any) -> None:
    model = SymbolModel((cell, cell), 4)
    params, state = model.init(np.random.default_rng(0))
    item = {"symbol": np.asarray(2), "target": np.asarray(1)}
    next_state, loss = model.transition(np, params, state, item)
    predicted, logits = model.predict(np, params, state, item["symbol"])
    assert loss == softmax_loss(np, logits, item["target"])
    for layer in next_state:
        for name in next_state[layer]:
            assert np.array_equal(next_state[layer][name], predicted[layer][name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": []}, "at least one symbol"),
        ({"prompt": [5]}, "from 0 to 4"),
        ({"prompt": [-1]}, "from 0 to 4"),
        ({"count": 0}, "number of symbols: expected an integer >= 1"),
        ({"temperature": -1.0}, "temperature: expected a number >= 0, got"),
        ({"temperature": math.nan}, "temperature: expected a number >= 0, got"),
    ],
)
def test_sampling_refuses_what_makes_no_sense(change: dict[str, Any], message: str) -> None:
    model, params, state = _counting_model()
    asked: dict[str, Any] = {"prompt": [0], "count": 3, "temperature": 1.0} | change
    with pytest.raises(SettingError, match=message):
        sample(model, params, state, **asked)


def test_a_model_that_has_diverged_writes_nothing() -> None:
    model, params, state = _counting_model()
    params["readout"]["bias"] = np.full(5, np.nan)
    with pytest.raises(SettingError, match=r"expected finite logits.*Try an earlier checkpoint"):
        sample(model, params, state, [0], count=3)


def test_flat_names_become_trees_again() -> None:
    model = SymbolModel((GRU(3), GRU(3)), 4)
    params, state = model.init(np.random.default_rng(0))
    flat = {f"params/{layer}/{name}": array for layer in params for name, array in
            params[layer].items()}  # fmt: skip
    flat |= {f"state/{layer}/h": state[layer]["h"] for layer in state}
    flat["params_of_another_kind"] = np.ones(1)
    assert unflatten(flat, "state")["1"]["h"] is state["1"]["h"]
    tree = unflatten(flat, "params")
    assert {layer: set(tree[layer]) for layer in tree} == {
        layer: set(params[layer]) for layer in params
    }
    assert unflatten(flat, "params/0")["gates"] is params["0"]["gates"]
    refused: list[Callable[[], Any]] = [
        lambda: unflatten(flat, "memory"),
        lambda: unflatten({"a/b": 1, "a/b/c": 2}, "a"),
        lambda: unflatten({"a/b/c": 2, "a/b": 1}, "a"),
    ]
    for call in refused:
        with pytest.raises(StructureError, match="unflatten"):
            call()


def test_lines_off_the_beat_go_where_a_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = _log(path, 3)
    log.write({"step": 2, "loss": 1.0, "partial": True})
    assert len(read_metrics(path)) == 4
    log.truncate_after(5)
    assert [record["step"] for record in read_metrics(path)] == [0, 1, 2]
