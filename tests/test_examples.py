"""Every example runs without a warning, and does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

NEEDS = {
    "lightning_module": "lightning",
    "snntorch_neurons": "snntorch",
    "spikingjelly_neurons": "spikingjelly",
}
"""Libraries that are no dependency, by the example that is about one."""

THOROUGH = ("streams_in_processes", "streams_on_many_devices", "actor_critic")
"""Those that take longest; what they show has tests of its own."""


def _numbers(line: str) -> list[float]:
    return [float(found) for found in re.findall(r"\d+\.\d+", line)]


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(path, marks=pytest.mark.thorough) if path.stem in THOROUGH else path
        for path in EXAMPLES
    ],
    ids=lambda path: path.stem,
)
def test_it_runs(example: Path, tmp_path: Path) -> None:
    needed = NEEDS.get(example.stem)
    if needed is not None and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(example)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    learned = [line for line in done.stdout.splitlines() if " at last" in line]
    for line in learned:
        first, last = _numbers(line)
        assert last < 0.6 * first, line
    if example.stem == "refused_model":
        assert "gradients are off inside the model, at refused_model.py:" in done.stdout
        assert "Accepted. Autodiff mode: double vjp" in done.stdout
    elif example.stem == "two_layer_stack":
        gaps = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()[1:]]
        assert max(gaps[:2]) < 1e-12 < 0.1 < gaps[2]
    elif example.stem == "detached":
        for line in done.stdout.splitlines():
            distance, cosine = _numbers(line)
            assert 0.1 < distance < 0.8, line
            assert cosine > 0.7, line
    else:
        assert learned, done.stdout
