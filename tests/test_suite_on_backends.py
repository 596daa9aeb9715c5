"""The suite on our own backends: this is where every law is held on all three."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite_runs import run_suite_command
from uoro_conformance.profiles import PROFILES
from uoro_conformance.suite import cases


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
def test_every_law_holds_on_each_backend(name: str, tmp_path: Path) -> None:
    done, report = run_suite_command(tmp_path, name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["counts"] == {"holds": len(cases(PROFILES["ci"]))}
    assert report["false_alarm"] <= 1e-9
    assert {"float64", "float32"} == {entry["id"].split("/")[0] for entry in report["findings"]}
    for entry in report["findings"]:
        if entry["false_alarm"]:
            assert 0 < entry["resolves"] < 0.3, entry
    declared = {entry["id"]: entry for entry in report["findings"]}["float64/declared/tbptt:10"]
    assert "wrong sign" in declared["evidence"]
    assert "seed 0" in done.stdout
    if name == "jax":
        # Kinds times dtypes, one more size for the enumeration, and two whose units do not mix:
        # however many systems there are.
        assert "Systems of 25 shapes were compiled" in done.stdout
