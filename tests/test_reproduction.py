"""Running and keeping the paper's experiments, and the command that does it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from uoro.cli.app import app
from uoro.errors import ReproductionError, SettingError, UnknownNameError, UOROError
from uoro.lab.jobs import Done, Job, Results, execute
from uoro.lab.reproduce import (
    EXPERIMENTS,
    Claim,
    Document,
    ReproductionPlan,
    catalogue,
    find,
)
from uoro.lab.reproduce.claims import judge
from uoro.lab.reproduce.kinds import KINDS
from uoro.lab.reproduce.learning import learn, learning_run

PAPER = ReproductionPlan(scale="paper")


def _tiny(
    id: str = "tiny", *, items: int = 300, seeds: Sequence[int] = (0, 1), **changes: Any
) -> Job:
    chosen: dict[str, Any] = {
        "common": ReproductionPlan(backend="autograd").common("float64"),
        "task": "influence-balancing",
        "arguments": {"learning_rate": 1e-3},
        "network": None,
        "estimator": "uoro",
        "items": items,
        "seeds": list(seeds),
        "window": 100,
        "microseconds": 1.0,
    }
    return learning_run(id, **(chosen | changes))


def _ignore(key: Any, fraction: float) -> None:
    assert 0 <= fraction <= 1


def _never() -> bool:
    return False


# Runs


@pytest.mark.parametrize("backend", ["autograd", "torch", "jax"])
def test_learning_runs_say_the_same_on_every_backend_where_nothing_is_drawn(backend: str) -> None:
    run = _tiny(
        estimator="tbptt:10", seeds=[0], common=ReproductionPlan(backend=backend).common("float64")
    )
    (record,) = learn(run.settings, lambda fraction: None)["replicas"]
    plain = learn(_tiny(estimator="tbptt:10", seeds=[0]).settings, lambda fraction: None)
    np.testing.assert_allclose(record["loss"], plain["replicas"][0]["loss"], rtol=1e-4)


def test_runs_in_processes_of_their_own_are_runs_here() -> None:
    runs = [_tiny("short"), _tiny("long", items=500)]
    done = dict(
        execute(
            [(run.id, run) for run in runs], 2, kinds=KINDS, progress=_ignore, asked_to_stop=_never
        )
    )
    for run in runs:
        found = done[run.id]
        assert isinstance(found, Done)
        assert found.result == learn(run.settings, lambda fraction: None)
        assert found.settings == run.settings
        assert found.seconds > 0
        assert {"numpy", "uoro", "autograd"} <= set(found.made["versions"])


def test_an_error_in_a_process_comes_back_as_it_is_and_stops_no_other_run() -> None:
    runs = [("wrong", replace(_tiny(estimator="uroo"), cost=100.0)), ("right", _tiny())]
    done = dict(execute(runs, 1, kinds=KINDS, progress=_ignore, asked_to_stop=_never))
    assert isinstance(done["wrong"], UnknownNameError)
    assert "Did you mean 'uoro'" in str(done["wrong"])
    assert isinstance(done["right"], Done)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_runs_end_with_the_process_that_started_them(tmp_path: Path, number: int) -> None:
    place = tmp_path / "worker"
    run = Job("long", "linger", {"path": str(place), "backend": "autograd"}, 1.0)
    program = (
        "from lingering import linger\n"
        "from uoro.lab.jobs import Job, execute\n"
        "if __name__ == '__main__':\n"
        f"    runs = [(0, Job({run.id!r}, {run.kind!r}, {run.settings!r}, 1.0))]\n"
        "    said = dict(progress=lambda *_: None, asked_to_stop=lambda: False)\n"
        "    list(execute(runs, 1, kinds={'linger': linger}, **said))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program, encoding="utf-8")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    with subprocess.Popen([sys.executable, str(script)], env=environment) as process:
        assert _soon(place.exists), "no run was started"
        process.send_signal(number)
    worker = int(place.read_text(encoding="utf-8"))
    assert _soon(lambda: not _lives(worker)), "it goes on by itself"


def _soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _lives(process: int) -> bool:
    """Tell whether a process is there, and not merely waiting to be buried."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not (
        stat.exists() and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    )


def test_when_asked_to_stop_what_is_done_has_been_given() -> None:
    runs = [("long", replace(_tiny(items=2_000_000), cost=0.0)), ("short", _tiny())]
    done: list[str] = []
    going = execute(runs, 1, kinds=KINDS, progress=_ignore, asked_to_stop=lambda: bool(done))
    done.append(next(going)[0])
    with pytest.raises(KeyboardInterrupt):
        next(going)
    assert done == ["short"]


# Documents


class Tiny:
    """An experiment of three small runs."""

    name = "tiny"
    title = "A small experiment"
    paper = "Nothing."
    ours = "As little."

    def __init__(self, seeds: int = 3, items: int = 300) -> None:
        self.seeds, self.items = seeds, items

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        return [
            _tiny(f"seed {seed}", seeds=[seed], items=self.items)
            for seed in range(plan.seeds or self.seeds)
        ]

    def claims(self, results: Results) -> list[Claim]:
        return [Claim("It runs.", f"{len(results)} runs.", judge(len(results) >= 3, False))]

    def draw(self, results: Results, path: Path) -> None:
        path.write_bytes(b"a figure")

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        return [["run"], *([id] for id in results)]


def _done(run: Job) -> Done:
    return Done(run.settings, {"value": math.inf}, 1.0)


def test_a_document_keeps_what_was_done_and_knows_what_is_missing(tmp_path: Path) -> None:
    tiny, path = Tiny(), tmp_path / "tiny.json"
    runs = tiny.runs(PAPER)
    document = Document(path, tiny, runs)
    assert document.missing == runs
    document.add(runs[0], _done(runs[0]))
    again = Document(path, tiny, runs)
    assert again.missing == runs[1:]
    assert float(again.results["seed 0"].result["value"]) == math.inf
    content = json.loads(path.read_text())
    assert content["missing"] == ["seed 1", "seed 2"]
    assert content["runs"]["seed 0"]["settings"]["items"] == 300


def test_other_settings_are_refused_and_other_seeds_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    runs = Tiny().runs(PAPER)
    document = Document(path, Tiny(), runs)
    for run in runs:
        document.add(run, _done(run))
    fewer = Document(path, Tiny(), runs[:1])
    assert not fewer.missing
    fewer.write()
    assert list(fewer.results) == ["seed 0", "seed 1", "seed 2"]
    content = path.read_text()
    longer = Tiny(items=400)
    with pytest.raises(ReproductionError, match=r"other settings.*another --out"):
        Document(path, longer, longer.runs(PAPER))
    assert path.read_text() == content


def test_a_run_with_more_seeds_stands_for_one_with_fewer(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    many, few, other = (_tiny(name, seeds=range(n)) for name, n in (("5", 5), ("3", 3), ("7", 7)))
    document = Document(path, Tiny(), [many])
    document.add(many, _done(many))
    assert not Document(path, Tiny(), [few]).missing
    assert Document(path, Tiny(), [other]).missing == [other]


def test_while_runs_are_missing_nothing_is_decided(tmp_path: Path) -> None:
    runs = [_tiny(f"seed {seed}", seeds=[seed]) for seed in range(4)]
    document = Document(tmp_path / "tiny.json", Tiny(), runs)
    for run in runs[:3]:
        document.add(run, _done(run))
    (claim,) = document.claims
    assert claim.verdict == "not decided at this scale"
    assert "3 of 4 runs" in claim.support
    document.add(runs[3], _done(runs[3]))
    assert [claim.verdict for claim in document.claims] == ["holds"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 99}', '{"format": 1, "runs": {"a": 1}}']
)
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(content)
    with pytest.raises(ReproductionError, match="Move the file away"):
        Document(path, Tiny(), [])
    assert path.read_text() == content


def test_a_file_of_the_format_before_is_read_under_the_new_names(tmp_path: Path) -> None:
    tiny, path = Tiny(), tmp_path / "tiny.json"
    runs = tiny.runs(PAPER)
    document = Document(path, tiny, runs)
    document.add(runs[0], _done(runs[0]))
    content = path.read_text().replace('"format": 3', '"format": 2')
    path.write_text(content.replace('"learning_rate"', '"rate"'))
    again = Document(path, tiny, runs)
    assert again.missing == runs[1:]
    again.write()
    assert json.loads(path.read_text()) == json.loads(content) | {"format": 3}


# The command


@pytest.fixture
def tiny_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "EXPERIMENTS", (Tiny(),))


@pytest.mark.usefixtures("tiny_catalogue")
def test_the_command_runs_resumes_and_adds_seeds(tmp_path: Path) -> None:
    words = [
        "reproduce",
        "tiny",
        "--backend",
        "autograd",
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "2",
    ]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert "3 runs to make" in first.output
    assert "holds: It runs." in first.output
    assert (tmp_path / "out" / "tiny.png").read_bytes() == b"a figure"
    before = json.loads((tmp_path / "out" / "tiny.json").read_text())
    second = CliRunner().invoke(app, words)
    assert "0 runs to make" in second.output
    assert "3 are there already" in second.output
    third = CliRunner().invoke(app, [*words, "--seeds", "4"])
    assert "1 runs to make" in third.output
    after = json.loads((tmp_path / "out" / "tiny.json").read_text())
    assert after["runs"].items() > before["runs"].items()
    assert len(after["runs"]) == 4


@pytest.mark.parametrize(
    ("words", "error", "what"),
    [
        (["fig2z"], UnknownNameError, "Did you mean 'fig2"),
        (
            ["fig2a", "--scale", "huge"],
            SettingError,
            "scale: expected one of 'quick', 'paper', got 'huge'",
        ),
        (["fig2a", "--seeds", "0"], SettingError, "--seeds 0"),
        (["fig2a", "--jobs", "0"], SettingError, "--jobs 0"),
        (["fig2a", "--backend", "jxa"], UnknownNameError, "Did you mean 'jax'"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, words: list[str], error: type[UOROError], what: str
) -> None:
    result = CliRunner().invoke(app, ["reproduce", *words, "--out", str(tmp_path)])
    assert isinstance(result.exception, error)
    assert what in str(result.exception)


def test_names_find_experiments() -> None:
    assert [one.name for one in find(["all"])] == [one.name for one in EXPERIMENTS]
    assert [one.name for one in find(["table1", "fig4", "fig2a"])] == ["fig4", "fig2a"]
