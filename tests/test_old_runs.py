"""A run folder of version 0.1 is read, listed, drawn, sampled from, and resumed to its numbers.

``data/run_of_0_1`` was written by ``uoro train anbn --steps 30 …`` of version 0.1, and
``data/run_of_0_1_resumed`` by the same version's ``uoro train --resume … --steps 60``. Version 0.1
called the learning rate ``rate``, the throughput ``rate`` too, and the carry ``memory``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import begin, command, outcome

from uoro.training import read_metrics
from uoro.training.config import read_settings

DATA = Path(__file__).parent / "data"
RESUMED = DATA / "run_of_0_1_resumed"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Copy the run folder, which the tests write to."""
    return shutil.copytree(DATA / "run_of_0_1", tmp_path / "old")


def _new_names(arrays: dict[str, Any]) -> dict[str, Any]:
    return {
        f"carry/{name.removeprefix('memory/')}" if name.startswith("memory/") else name: array
        for name, array in arrays.items()
    }


def test_an_old_run_resumes_to_the_numbers_of_the_version_that_wrote_it(old: Path) -> None:
    done = command("train", "--resume", old, "--steps", "60")
    assert done.status == 0, done.errors
    assert not done.errors
    found, wanted = outcome(old), outcome_of_old()
    assert found["document"]["learner"] == wanted["document"]["learner"]
    assert found["document"]["stream"] == wanted["document"]["stream"]
    arrays, before = _new_names(found["arrays"]), _new_names(wanted["arrays"])
    assert arrays.keys() == before.keys()
    for name, array in before.items():
        assert arrays[name].dtype == array.dtype, name
        # The same bits on one machine; another one may add in another order.
        np.testing.assert_allclose(arrays[name], array, 1e-9, 1e-12, err_msg=name)
    assert len(found["metrics"]) == len(wanted["metrics"]) == 6
    for line, other in zip(found["metrics"], wanted["metrics"], strict=True):
        assert line == pytest.approx(other, rel=1e-9)


def outcome_of_old() -> dict[str, Any]:
    """Read what version 0.1 came to, whose folder has no status here."""
    from uoro.checkpoint import Checkpoints

    found = Checkpoints(RESUMED / "checkpoints").latest()
    assert found is not None
    lines = read_metrics(RESUMED / "metrics.jsonl")
    timings = ("seconds", "throughput", "resident")
    return {
        "arrays": found.snapshot.arrays,
        "document": found.snapshot.document,
        "metrics": [{k: v for k, v in line.items() if k not in timings} for line in lines],
    }


def test_an_old_run_is_read_under_the_new_names_and_written_under_them(old: Path) -> None:
    assert "\nrate = 0.001" in (old / "config.toml").read_text()
    assert read_settings(old / "config.toml")["optimizer"]["learning_rate"] == 0.001
    lines = read_metrics(old / "metrics.jsonl")
    assert all(line["throughput"] > 0 and "rate" not in line for line in lines)
    assert command("train", "--resume", old, "--steps", "31").status == 0
    written = (old / "config.toml").read_text()
    assert "learning_rate = 0.001" in written
    assert "\nrate" not in written


def test_an_old_run_is_listed_drawn_and_sampled_from(old: Path) -> None:
    listed = command("runs", old.parent)
    assert "30" in listed.output
    assert "done" in listed.output
    drawn = command("plot", old, "--monitors", "pair/norm,throughput")
    assert drawn.status == 0, drawn.errors
    assert (old / "curve.png").read_bytes().startswith(b"\x89PNG")
    sampled = command("sample", old, "--length", "20")
    assert sampled.status == 0, sampled.errors
    assert set(sampled.output) <= set("ab\n")


def test_old_settings_begin_the_same_run(tmp_path: Path) -> None:
    """A configuration file of version 0.1 and ``--set optimizer.rate`` mean the learning rate."""
    (tmp_path / "run.toml").write_text('task = "anbn"\n[optimizer]\nrate = 0.02\n')
    common = ("--backend", "autograd", "--model", "rnn", "--units", "3", "--steps", "3")
    for name, more in (("file", ["--config", tmp_path / "run.toml"]),
                       ("set", ["anbn", "--set", "optimizer.rate=0.02"]),
                       ("flag", ["anbn", "--rate", "0.02"])):  # fmt: skip
        done = command("train", *more, *common, "--out", tmp_path / name)
        assert done.status == 0, done.errors
        settings = read_settings(tmp_path / name / "config.toml")
        assert settings["optimizer"]["learning_rate"] == 0.02
        assert done.errors.count("\n") == (1 if name == "flag" else 0)
        assert ("--rate is deprecated" in done.errors) == (name == "flag")


def test_a_checkpoint_of_an_old_run_fits_a_new_one(tmp_path: Path, old: Path) -> None:
    """Both versions name the arrays alike once they are read."""
    begin(tmp_path / "new", dtype="float64", steps=30)
    new, before = outcome(tmp_path / "new")["arrays"], outcome(old)["arrays"]
    assert _new_names(new).keys() == _new_names(before).keys()
