"""A run that is killed at many instants ends with the very numbers of one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed_runs import OWN
from runs import outcome, require_same

MANY = [pytest.param(name, 50, marks=pytest.mark.thorough) for name in ("torch", "jax")]


@pytest.mark.parametrize(("name", "kills"), [("autograd", 50), ("torch", 12), ("jax", 12), *MANY])
def test_kills_change_no_number_of_a_run(name: str, kills: int, tmp_path: Path) -> None:
    script = Path(__file__).parent / "killed_runs.py"
    # Compiled loops are kept from one life to the next.
    keep = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [sys.executable, str(script), name, str(tmp_path), str(kills)],
        capture_output=True,
        text=True,
        env=os.environ | keep,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    lives = report["lives"]
    assert len(lives) == kills
    resumed = [life for life in lives if life["begun"]]
    assert len(resumed) >= kills // 2, lives
    assert len({life["begun"] for life in resumed}) >= kills // 5, lives
    assert any(life["ended"] == life["begun"] for life in resumed), lives
    assert sum(life["torn"] for life in lives) >= 1, lives
    assert sum(life["own"] for life in lives) == sum(number < kills for number in OWN), lives

    killed = outcome(tmp_path / "killed")
    assert killed["status"]["state"] == "done"
    assert killed["document"]["learner"]["steps"] == report["steps"]
    require_same(tmp_path / "killed", tmp_path / "undisturbed")
    leftovers = [path.name for path in (tmp_path / "killed").rglob("*.part")]
    assert not leftovers
