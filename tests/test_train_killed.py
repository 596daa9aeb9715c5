"""A run that is killed at fifty instants ends with the very numbers of one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BACKENDS

from uoro.checkpoint import Checkpoints
from uoro.training import read_metrics, read_status

KILLS = 50
TIMINGS = ("seconds", "rate", "resident")


@pytest.mark.parametrize("name", BACKENDS)
def test_fifty_kills_change_no_number_of_a_run(name: str, tmp_path: Path) -> None:
    script = Path(__file__).parent / "killed_runs.py"
    # Compiled loops are kept from one life to the next.
    keep = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [sys.executable, str(script), name, str(tmp_path), str(KILLS)],
        capture_output=True,
        text=True,
        env=os.environ | keep,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    lives = report["lives"]
    assert len(lives) == KILLS
    resumed = [life for life in lives if life["begun"]]
    assert len(resumed) >= KILLS // 2, lives
    assert len({life["begun"] for life in resumed}) >= KILLS // 5, lives
    assert any(life["ended"] == life["begun"] for life in resumed), lives
    assert sum(life["torn"] for life in lives) >= 1, lives
    assert sum(life["own"] for life in lives) == 3, lives

    killed, undisturbed = (_outcome(tmp_path / which) for which in ("killed", "undisturbed"))
    assert killed["status"]["state"] == "done"
    assert killed["document"]["learner"]["steps"] == report["steps"]
    for part in ("learner", "stream", "meter", "alphabet"):
        assert killed["document"][part] == undisturbed["document"][part], part
    assert killed["arrays"].keys() == undisturbed["arrays"].keys()
    for path, array in undisturbed["arrays"].items():
        np.testing.assert_array_equal(killed["arrays"][path], array, path, strict=True)
    assert killed["metrics"] == undisturbed["metrics"]
    leftovers = [path.name for path in (tmp_path / "killed").rglob("*.part")]
    assert not leftovers


def _outcome(folder: Path) -> dict[str, Any]:
    found = Checkpoints(folder / "checkpoints").latest()
    assert found is not None
    assert not found.damaged
    lines = read_metrics(folder / "metrics.jsonl")
    return {
        "arrays": found.snapshot.arrays,
        "document": found.snapshot.document,
        "metrics": [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines],
        "status": read_status(folder),
    }
