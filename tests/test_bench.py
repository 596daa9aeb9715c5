"""The benchmark: counts by hand, made-up times, and one tiny run through the command line."""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from uoro import Backend, Learner, load_backend, unroll
from uoro.algebra import entry
from uoro.cli.app import app
from uoro.errors import ReproductionError, SettingError, UnknownNameError
from uoro.estimators import Truncated
from uoro.lab.bench import BenchDocument, BenchPlan, Sizes, Work, draw, facts, least, page, table
from uoro.lab.bench import group as group_module
from uoro.lab.bench import throughput as throughput_module
from uoro.lab.bench.group import require_rows, sizes_of, time_group
from uoro.lab.bench.instrument import BenchModel, instrument_of
from uoro.lab.bench.learning import items_of, optimizer
from uoro.lab.bench.rows import ROWS, base_of, parse_row
from uoro.lab.bench.throughput import Machine, Throughput
from uoro.lab.bench.timing import Calibrated, calibrate, ratios, spread, take_turns
from uoro.lab.bench.torch_cells import CELLS as PLAIN
from uoro.lab.jobs import Done
from uoro.models import CELLS, SymbolModel


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput_module, "SECONDS", 1e-4)


def _plan(**changes: Any) -> BenchPlan:
    chosen: dict[str, Any] = {
        "backends": ("autograd",),
        "cells": ("gru",),
        "units": (4,),
        "rows": ("forward", "tbptt", "uoro"),
        "repetitions": 3,
        "seconds": 0.001,
    }
    return BenchPlan(**(chosen | changes))


def _ignore(fraction: float) -> None:
    assert 0 <= fraction <= 1


# The roofline

SIZES = Sizes(params=10, weights=8, state=2)


@pytest.mark.parametrize(
    ("work", "read", "updated", "operations", "touched"),
    [
        # A product with a vector is two operations a weight: 2 · 8.
        (Work("forward"), 8, 0, 16, 8),
        # θ, m and v are updated: 3 · 10. Product 16, outer product 8, Adam 13 · 10.
        (Work("truncated"), 8, 30, 154, 30),
        # θ̃ too: 4 · 10. Besides: jvp 16, the signs' outer product 8, 7 · 10 for θ̃.
        (Work("uoro"), 8, 40, 154 + 94, 40),
        (Work("uoro", rank=3), 8, 60, 154 + 3 * 94, 60),
        # Per character of four: 7 readings, one update. 4 · 16 forward, 3 · 16 back, 7 · 8 outer.
        (Work("truncated", span=4), 56 / 4, 30 / 4, (168 + 130) / 4, 30),
        (Work("uoro", span=4), 56 / 4, 40 / 4, (168 + 130 + 168 + 70) / 4, 40),
        # Two streams share θ, m and v, and the reading; each has a pair and its own arithmetic.
        (Work("truncated", streams=2), 8, 30, 2 * 24 + 130, 30),
        (Work("uoro", streams=2), 8, 50, 2 * 24 + 130 + 2 * 94, 50),
        # The influence is 2 x 10, multiplied by a 2 x 2 matrix (80) and by ∂ℓ/∂s (40).
        (Work("rtrl"), 8, 50, 154 + 120, 50),
    ],
)
def test_the_roofline_is_what_counting_by_hand_gives(
    work: Work, read: float, updated: float, operations: float, touched: int
) -> None:
    assert least(work, SIZES) == (read, updated, operations, touched)


def test_the_roofline_takes_the_larger_of_moving_and_calculating() -> None:
    roofline = least(Work("uoro"), SIZES)
    rates = {"read_throughput": 4.0, "update_throughput": 8.0}
    # 8 numbers of 4 bytes at 4 bytes a second, and 40 read and written at 8: 8 + 40 seconds.
    assert roofline.seconds(4, **rates, operation_throughput=1e9) == 48.0
    assert roofline.seconds(4, **rates, operation_throughput=2.0) == 124.0


@pytest.mark.parametrize(
    ("cell", "params", "weights", "state"),
    [
        # Table 3 x 12, gates 8 x 4, candidate 4 x 4, bias 12; readout 3 x 4 and 3.
        ("gru", 36 + 32 + 16 + 12 + 12 + 3, 32 + 16 + 12, 4),
        # Table 3 x 4, two maps 16 x 4 with their biases.
        ("lstm", 12 + 2 * (64 + 16) + 12 + 3, 64 + 64 + 12, 8),
        ("rnn", 12 + 16 + 4 + 12 + 3, 16 + 12, 4),
    ],
)
def test_sizes_leave_out_the_table_a_row_is_looked_up_in(
    cell: str, params: int, weights: int, state: int
) -> None:
    model = SymbolModel((CELLS[cell](4),), 3)
    assert sizes_of(*model.init(np.random.default_rng(0))) == (params, weights, state)


@pytest.mark.parametrize("threads", [1, 2])
def test_throughput_is_a_positive_number(threads: int) -> None:
    machine = Machine(load_backend("autograd"), "float32", threads)
    for rate in (*machine.throughput([1000])[1000], machine.operations()):
        assert 0 < rate < math.inf


def test_a_smaller_array_is_no_slower_than_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {10: Throughput(5.0, 1.0), 20: Throughput(3.0, 4.0), 40: Throughput(2.0, 2.0)}
    monkeypatch.setattr(Machine, "_once", lambda self, touched: found[touched])
    rates = Machine(load_backend("autograd"), "float32", 1).throughput([20, 10, 40])
    assert rates == {40: (2.0, 2.0), 20: (3.0, 4.0), 10: (5.0, 4.0)}


def test_throughput_of_another_device_is_measured_with_its_own_arrays() -> None:
    class Elsewhere:
        device = "elsewhere:0"

        def __getattr__(self, name: str) -> Any:
            return getattr(load_backend("torch"), name)

    machine = Machine(cast(Backend, Elsewhere()), "float32", 2)
    for rate in (*machine.throughput([1000])[1000], machine.operations()):
        assert 0 < rate < math.inf


# Times


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0, 7.0)


def test_ratios_are_formed_turn_by_turn() -> None:
    # The machine was twice as slow in the second turn, and ten times in the third.
    assert ratios([20.0, 40.0, 200.0], [10.0, 20.0, 100.0]) == (2.0, 2.0, 2.0)


class _Noted:
    def __init__(self, name: str, log: list[str]) -> None:
        self.items = 10
        self._name, self._log = name, log

    def run(self) -> None:
        self._log.append(self._name)


def test_rows_take_turns_to_and_fro() -> None:
    log: list[str] = []
    rows = {name: Calibrated(_Noted(name, log), 1, 0.0) for name in "abc"}
    times = take_turns(rows, 3, _ignore)
    assert "".join(log) == "abccbaabc"
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_the_first_call_is_kept_apart() -> None:
    class Slow:
        items = 1

        def __init__(self) -> None:
            self.calls = 0

        def run(self) -> None:
            self.calls += 1
            sum(range(300_000 if self.calls == 1 else 10))

    slow = Slow()
    ready = calibrate(slow, 0.001)
    assert ready.calls > 1
    assert slow.calls > 2
    assert ready.first_call > 0


# Rows


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("forward", Work("forward")),
        ("tbptt", Work("truncated")),
        ("tbptt:16", Work("truncated", span=16)),
        ("uoro:rank=4,memory=2", Work("uoro", span=2, rank=4)),
        ("rtrl", Work("rtrl")),
        ("uoro@8", Work("uoro", streams=8)),
    ],
)
def test_a_row_says_what_it_has_to_do(name: str, work: Work) -> None:
    assert parse_row(name).work == work


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bptt", "expected a step of constant cost.*got"),
        ("tbptt:8,rolling", "expected a step of constant cost.*got"),
        ("uoro@0", "count of streams"),
        ("uoro@", "count of streams"),
        ("forward@8", "expected one stream for 'forward', got '@8'"),
        ("uoro:rank=0", "rank"),
    ],
)
def test_a_row_that_cannot_be_timed_is_refused(name: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse_row(name)


def test_rows_are_held_against_truncation_of_their_own_length_and_streams() -> None:
    assert base_of(Work("uoro", rank=4), ROWS) == "tbptt"
    assert base_of(Work("uoro", span=16), ROWS) == "tbptt:16"
    assert base_of(Work("uoro", streams=8), ROWS) == "tbptt@8"
    assert base_of(Work("uoro", span=7), ROWS) is None
    assert base_of(Work("uoro"), ("tbptt", "plain-tbptt")) == "plain-tbptt"


def test_a_call_goes_through_whole_windows_and_not_for_too_long() -> None:
    jax = load_backend("jax")
    for name in ROWS:
        for params in (100, 10**4, 10**7):
            row = parse_row(name)
            items = items_of(row, jax, params, 64)
            assert items >= 1
            assert items % row.work.span == 0
    assert items_of(parse_row("uoro"), jax, 10**8, 2048) <= 4


# Models by hand


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_the_models_written_for_torch_alone_are_those_of_the_library(cell: str) -> None:
    backend = load_backend("torch")
    model = SymbolModel((CELLS[cell](5),), 3)
    params, state = (backend.from_host(tree) for tree in model.init(np.random.default_rng(3)))
    state = backend.map(lambda leaf: leaf + 0.3, state)
    item = {"symbol": torch.tensor(2), "target": torch.tensor(1)}
    wanted_state, wanted_loss = model.transition(torch, params, state, item)
    flat_params: Any = dict(backend.named_leaves(params))
    flat_state: Any = dict(backend.named_leaves(state))
    next_state, loss = PLAIN[cell](flat_params, flat_state, item)
    torch.testing.assert_close(loss, wanted_loss)
    torch.testing.assert_close(next_state, dict(backend.named_leaves(wanted_state)))


def _problem(backend: Backend) -> BenchModel:
    model = SymbolModel((CELLS["gru"](4),), 3)
    params, state = (
        backend.from_host(tree, dtype="float32") for tree in model.init(np.random.default_rng(0))
    )

    def symbols(count: int) -> Any:
        drawn = np.random.default_rng(1).integers(0, 3, count + 1)
        return backend.from_host({"symbol": drawn[:-1], "target": drawn[1:]})

    return BenchModel("gru", 4, params, state, symbols)


def _trained(name: str, problem: BenchModel) -> dict[str, torch.Tensor]:
    """Run a row of torch's once, compiling nothing, and give the params that it ends with."""
    ended: dict[str, torch.Tensor] = {}
    adam = torch.optim.Adam.step
    names = [name for name, _ in load_backend("torch").named_leaves(problem.params)]

    def step(self: torch.optim.Adam, closure: Any = None) -> Any:
        done = adam(self, closure)
        ended.update(zip(names, self.param_groups[0]["params"], strict=True))
        return done

    def compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            results = function(*arguments)
            ended.update(results[0])
            return results

        return noted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        patch.setattr(torch, "compile", compile)
        timed = instrument_of(load_backend("torch")).extras()[name].make(problem)
        timed.run()
    assert timed.items == 16
    return ended


@pytest.mark.parametrize(
    ("name", "span"), [("plain-tbptt", 1), ("plain-tbptt-compiled", 1), ("plain-tbptt:16", 16)]
)
def test_the_loops_by_hand_take_the_steps_of_a_learner(name: str, span: int) -> None:
    backend = load_backend("torch")
    problem = _problem(backend)
    model = SymbolModel((CELLS["gru"](4),), 3)
    dynamics: Any = backend.dynamics(partial(model.transition, backend.xp))
    stream: Any = iter([entry(backend, problem.symbols(16), i) for i in range(16)])
    if span > 1:
        dynamics = unroll(dynamics, span)
    learner = Learner(dynamics, Truncated(), optimizer(), problem.params, problem.state)
    learner.run(stream)
    ended = _trained(name, problem)
    for leaf, wanted in backend.named_leaves(learner.params):
        torch.testing.assert_close(ended[leaf].detach(), wanted, rtol=1e-3, atol=1e-6)


def test_online_learns_beside_the_loops_by_hand() -> None:
    problem = _problem(load_backend("torch"))
    start: Any = dict(load_backend("torch").named_leaves(problem.params))
    for name, param in _trained("online", problem).items():
        assert torch.isfinite(param).all()
        assert not torch.equal(param, start[name])


# Groups


@pytest.mark.parametrize("backend", ["autograd", "torch", "jax"])
def test_a_group_times_its_rows_and_says_what_it_left_out(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_module, "RTRL_UNITS", 3)
    rows: tuple[str, ...] = ("tbptt", "uoro", "rtrl")  # compiling takes its time
    if backend != "jax":
        rows = ("forward", "uoro:memory=16", "uoro@2", *rows)
    (run,) = _plan(backends=(backend,), rows=rows).groups()
    threads = torch.get_num_threads()
    result = time_group(run.settings, _ignore)
    torch.set_num_threads(threads)
    assert list(result["rows"]) == list(rows[:-1])
    assert list(result["left_out"]) == ["rtrl"]
    for name, row in result["rows"].items():
        assert len(row["microseconds"]) == 3, name
        assert min(row["microseconds"]) > 0, name
        assert row["roofline"]["microseconds"] > 0, name
    bases = {name: row["base"] for name, row in result["rows"].items()}
    assert bases["uoro"] == "tbptt"
    assert bases.get("uoro:memory=16") is None
    if backend == "jax":
        itemsize, params = 4, result["sizes"]["params"]
        memory = result["rows"]["uoro"]["memory"]
        # θ, Adam's two and θ̃ go in at the least.
        assert memory["parts"]["arguments"] >= 4 * itemsize * params
        assert memory["bytes"] == sum(memory["parts"].values())


def test_a_row_that_fails_takes_no_other_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise ValueError("it cannot be made\nfor many reasons")

    monkeypatch.setattr(group_module, "Forward", fail)
    (run,) = _plan().groups()
    result = time_group(run.settings, _ignore)
    assert list(result["rows"]) == ["tbptt", "uoro"]
    assert result["left_out"] == {"forward": "the row failed: ValueError: it cannot be made"}


# What is kept, and shown


def _done(settings: dict[str, Any]) -> Done:
    def row(times: list[float], base: str | None, memory: int | None) -> dict[str, Any]:
        how: dict[str, Any] = {"bytes": memory, "how": "by hand", "parts": {}}
        return {
            "microseconds": times,
            "base": base,
            "streams": 1,
            "first_call_seconds": 1.5,
            "memory": None if memory is None else how,
            "roofline": {"microseconds": 5.0},
        }

    machine = {"device": "cpu", "hardware": "Abacus", "threads": 1, "cores allowed": 1}
    result = {
        "machine": machine,
        "sizes": {"params": 100, "weights": 80, "state": 4},
        "left_out": {"rtrl": "it is slow"},
        "rows": {
            "tbptt": row([10.0, 20.0, 40.0], "tbptt", None),
            "uoro": row([30.0, 60.0, 100.0], "tbptt", 2000),
        },
    }
    made = {"python": "3", "versions": {"uoro": "1"}}
    return Done(settings, result, 1.0, made)


def test_the_table_has_medians_ratios_and_multiples() -> None:
    (run,) = _plan().groups()
    heading, base, uoro = table(_done(run.settings))
    cells = dict(zip(heading, uoro, strict=True))
    assert cells["µs a step"] == "60.0"
    assert cells["ratio"] == "3.00"
    assert cells["to"] == "tbptt"
    assert cells["× roofline"] == "12.0"
    assert cells["× params"] == "5.0"
    assert dict(zip(heading, base, strict=True))["ratio"] == ""
    said = "\n".join(facts(_done(run.settings)))
    for piece in ("Abacus", "1 thread", "pinned to 1 core", "Left out: rtrl", "by hand"):
        assert piece in said


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    results = {
        run.id: _done(run.settings) for run in _plan(units=(4, 8), cells=("gru", "rnn")).groups()
    }
    paths = draw(results, tmp_path)
    assert [path.name for path in paths] == ["bench-autograd-gru.png", "bench-autograd-rnn.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_groups_that_are_there_are_not_timed_again(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    first, second = _plan(units=(4, 8)).groups()
    document = BenchDocument(path, [first, second])
    document.add(first, _done(first.settings))
    again = BenchDocument(path, [first, second])
    assert again.missing == [second]
    assert again.results[first.id] == document.results[first.id]


def test_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    (run,) = _plan().groups()
    BenchDocument(path, [run]).add(run, _done(run.settings))
    with pytest.raises(ReproductionError, match=r"another repetitions.*another --out"):
        BenchDocument(path, _plan(repetitions=5).groups())


def test_a_file_of_the_format_before_is_read_under_the_new_names(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    (run,) = _plan().groups()
    done = _done(run.settings)
    done.result["rows"]["uoro"]["roofline"] = {"microseconds": 5.0, "read_throughput": 2.0}
    BenchDocument(path, [run]).add(run, done)
    content = path.read_text().replace('"format": 2', '"format": 1')
    path.write_text(content.replace('"roofline"', '"floor"').replace("_throughput", "_rate"))
    assert BenchDocument(path, [run]).results == {run.id: done}


@pytest.mark.parametrize("content", ["", "[]", '{"format": 99}', '{"format": 1, "groups": [1]}'])
def test_a_file_that_holds_no_timings_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(ReproductionError, match="Move the file away"):
        BenchDocument(path, [])
    assert path.read_text() == content


# The command


def _bench(*options: str) -> Any:
    return CliRunner().invoke(app, ["bench", *options])


def test_the_command_times_writes_and_draws(tmp_path: Path) -> None:
    options = [
        "--backends", "autograd", "--units", "4", "--rows", "forward,tbptt,uoro",
        "--repetitions", "2", "--seconds", "0.001", "--out", str(tmp_path),
    ]  # fmt: skip
    done = _bench(*options)
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "bench.json").read_text())
    group = content["groups"]["autograd gru 4"]
    assert set(group["result"]["rows"]) == {"forward", "tbptt", "uoro"}
    assert {"numpy", "uoro", "autograd"} <= set(group["made"]["versions"])
    if hasattr(os, "sched_setaffinity"):
        assert group["result"]["machine"]["cores allowed"] == 1
    assert (tmp_path / "bench-autograd-gru.png").read_bytes().startswith(b"\x89PNG")
    again = _bench(*options)
    assert "0 groups to time; 1 are there already" in again.output
    assert "µs a step" in again.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "huge"], "expected one of 'quick', 'full'"),
        (
            ["--units", "64,many"],
            "bench --units: expected integers >= 1, separated by commas, got 64,many",
        ),
        (["--units", "0"], "units: expected an integer >= 1"),
        (["--units", ""], "bench --units: expected one name or more, got none"),
        (["--repetitions", "0"], "repetitions: expected an integer >= 1"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--threads", "0"], "threads: expected an integer >= 1"),
        (["--threads", "99999"], "expected at most"),
        (["--alphabet", "1"], "alphabet: expected an integer >= 2"),
        (["--dtype", "int8"], "expected one of 'float32', 'float64'"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    done = _bench("--out", str(tmp_path), "--backends", "autograd", *options)
    assert isinstance(done.exception, SettingError), done.output
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cells", "grue"], "Did you mean 'gru'"),
        (["--backends", "autograde"], "Did you mean 'autograd'"),
        (["--backends", "autograd", "--rows", "uro"], "Did you mean 'uoro'"),
        (["--backends", "autograd", "--rows", "online"], "no row 'online'"),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    done = _bench("--out", str(tmp_path), *options)
    assert isinstance(done.exception, UnknownNameError), done.output
    assert message in str(done.exception)


def test_rows_of_one_backend_are_rows_of_that_backend() -> None:
    require_rows(load_backend("torch"), ["online", "plain-tbptt", "uoro"])


def test_the_tables_of_the_documents_are_those_of_the_files() -> None:
    folder = Path(__file__).parent.parent / "docs"
    files = sorted(folder.glob("speed/*/bench.json"), key=str)  # As a shell lists them.
    _, _, below = (folder / "speed.md").read_text(encoding="utf-8").partition(page.MARK)
    assert files
    assert below == "\n" + page.tables(files)


def test_the_tables_of_accelerators_are_those_of_the_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = Path(__file__).parent.parent
    monkeypatch.syspath_prepend(root / "benchmarks")
    gpu_page = importlib.import_module("gpu_page")
    document, copy = root / "docs" / "speed.md", tmp_path / "speed.md"
    files = list(root.glob("docs/speed/gpu*.json"))
    text = document.read_text(encoding="utf-8")
    assert files
    assert text.count(gpu_page.BEGIN) == text.count(gpu_page.END) == 1
    copy.write_text(text.replace("| uoro | 64 |", "| uoro | 65 |"), encoding="utf-8")
    gpu_page.write(copy, files)
    between = [
        each.split(gpu_page.BEGIN)[1].split(gpu_page.END)[0]
        for each in (text, copy.read_text("utf-8"))
    ]
    assert between[0] == between[1] == "\n" + gpu_page.sections(files) + "\n"
    copy.write_text("prose\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"expected .*Below"):
        gpu_page.write(copy, files)
    assert copy.read_text(encoding="utf-8") == "prose\n"


def test_a_page_without_the_mark_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("prose\n", encoding="utf-8")
    with pytest.raises(ReproductionError, match="expected a line"):
        page.write(file, [])
    assert file.read_text(encoding="utf-8") == "prose\n"
