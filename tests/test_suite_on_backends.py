"""The suite on our own backends: this is where every law is held on all three.

With fewer systems, unless the test is thorough, on autograd, which maps by loops in Python, and in
float32 on JAX, which compiles all of it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from suite_runs import run_suite_command
from uoro_conformance.profiles import PROFILES
from uoro_conformance.running import choose_cases


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("torch", "ci"),
        ("autograd", "dev"),
        *(pytest.param(name, "ci", marks=pytest.mark.thorough) for name in ("autograd", "jax")),
    ],
)
def test_every_law_holds_on_each_backend(name: str, profile: str, tmp_path: Path) -> None:
    report, said = _require_all(tmp_path, name, profile, "*")
    assert {"float64", "float32"} == {entry["id"].split("/")[0] for entry in report["findings"]}
    if name == "jax":
        # Kinds times dtypes, one more size for the enumeration, and two whose units do not mix:
        # however many systems there are.
        assert "Systems of 25 shapes were compiled" in said


def test_every_law_holds_on_jax(tmp_path: Path) -> None:
    _require_all(tmp_path, "jax", "ci", "float64/*")
    _require_all(tmp_path, "jax", "dev", "float32/*")


def _require_all(folder: Path, name: str, profile: str, only: str) -> tuple[Any, str]:
    """Run the suite, and return its report and what it prints."""
    done, report = run_suite_command(folder, name, "--profile", profile, "--only", only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["counts"] == {"holds": len(choose_cases(PROFILES[profile], [only]))}
    assert report["false_alarm"] <= 1e-9
    for entry in report["findings"]:
        if entry["false_alarm"]:
            assert 0 < entry["resolves"] < (0.3 if profile == "ci" else 0.6), entry
    found = {entry["id"]: entry for entry in report["findings"]}
    if only != "float32/*":
        assert "wrong sign" in found["float64/declared/tbptt:10"]["evidence"]
    assert "seed 0" in done.stdout
    return report, done.stdout
