"""``uoro suggest``: of a task's network, and of a stranger's model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from uoro.cli.app import app
from uoro.errors import SettingError, UnknownNameError, UOROError

MODEL = """
import autograd.numpy as np
from uoro import load_backend

numbers = np.random.RandomState(0)
W = numbers.randn(4, 4) / 3

def right():
    def transition(params, state, x):
        state = np.tanh(params @ state + x)
        return state, np.sum((state - 1) ** 2)
    items = iter(numbers.randn(4) for _ in range(200))
    return load_backend("autograd").dynamics(transition), W, np.zeros(4), items

def three():
    return right()[:3]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text(MODEL)
    return tmp_path


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["suggest", *arguments])


FEW = ("--estimators", "tbptt:1,kron:1,rtrl", "--replicas", "3")


def test_a_model_of_ones_own_is_measured_as_uoro_check_takes_it(place: Path) -> None:
    done = _run("my_model.py:right", *FEW, "--learn", "20", "--json", "found.json")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("my_model.py:right, seed 0")
    assert "against the exact ones of rtrl" in done.output
    assert "After learning from 20 items" in done.output
    document = json.loads((place / "found.json").read_text())
    assert {row["spelling"] for row in document["rows"]} == {"tbptt:1", "kron:1", "rtrl"}
    assert f"Recommended: {document['recommended']}." in done.output
    assert document["facts"]["coordinates"] == 4
    assert document["made_with"]["versions"]["uoro"]


def test_the_network_of_a_task_is_measured(place: Path) -> None:
    done = _run(
        "anbn", "--model", "lru", "--units", "3", "--backend", "autograd", "--learn", "32",
        "--estimators", "block,tbptt:1", "--replicas", "3",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Recommended: block. Units do not move each other" in " ".join(done.output.split())
    assert "LRU, autograd on cpu, seed 0, float32" in done.output


def test_the_table_fits_a_narrow_terminal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uoro.cli.suggest.make_console", lambda: Console(width=80))
    done = _run("my_model.py:right", *FEW)
    assert done.exit_code == 0, done.output
    table = [line for line in done.output.splitlines() if "biased" in line or "exact" in line]
    assert all(len(line) <= 80 for line in table)


def test_limits_that_nothing_meets_end_with_status_1(place: Path) -> None:
    done = _run("my_model.py:right", *FEW, "--step-time", "0.001")
    assert done.exit_code == 1
    assert "Recommended: none. No estimator takes 1e-09 seconds or less" in done.output


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("my_model.py:right", "--units", "8"), SettingError, "no option --units"),
        (("my_model.py:right", "--backend", "jax"), SettingError, "no option --backend"),
        (("my_model.py:three",), SettingError, "expected a tuple"),
        (("my_model.py:wrong",), UnknownNameError, "suggest"),
        (("ambn",), UnknownNameError, "Did you mean 'anbn'"),
        (("anbn", "--dtype", "float16"), SettingError, "--dtype"),
        (("anbn", "--estimators", "urro"), UOROError, "Did you mean 'uoro'"),
        (("influence-balancing", "--layers", "2"), SettingError, "no option --layers"),
        (("anbn", "--seconds", "0"), SettingError, "budget=0.0"),
        (("my_model.py:right", "--json", "my_model.py/x.json"), SettingError, "--json"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    place: Path, arguments: tuple[str, ...], error: type[UOROError], words: str
) -> None:
    done = _run(*arguments)
    assert isinstance(done.exception, error), done.exception
    assert words in str(done.exception)
