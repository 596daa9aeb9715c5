"""What the documents show runs: every docstring example and every Python block of the README."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("uoro", "uoro_autograd", "uoro_torch", "uoro_jax", "uoro_conformance")


def _modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names += [info.name for info in pkgutil.walk_packages(path, package + ".")]
    return names


@pytest.mark.parametrize("name", _modules())
def test_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_there_are_examples_for_what_a_user_calls() -> None:
    from uoro_jax import OptaxOptimizer, ShardedStreams
    from uoro_torch import DistributedStreams, Online, TorchOptimizer, lift_state

    from uoro import (
        RTRL,
        SGD,
        UORO,
        JointUORO,
        Learner,
        RollingTruncated,
        TruncatedBPTT,
        load_backend,
    )
    from uoro.lab import Replicas
    from uoro.tasks import anbn

    for thing in (UORO, JointUORO, RTRL, TruncatedBPTT, RollingTruncated, Learner, Replicas, SGD,
                  anbn, load_backend, OptaxOptimizer, Online, TorchOptimizer, ShardedStreams,
                  DistributedStreams, lift_state):  # fmt: skip
        assert ">>>" in (thing.__doc__ or ""), thing


def _blocks(*documents: str) -> list[str]:
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in documents)
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "block",
    _blocks("README.md", "docs/conformance.md", "docs/torch.md", "docs/which.md", "docs/tables.md"),
    ids=lambda block: block.splitlines()[0][:40],
)
def test_python_blocks_of_the_documents_run(block: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(block, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for wanted in re.findall(r"# prints (.+)$", block, re.MULTILINE):
        assert wanted in done.stdout, (wanted, done.stdout)


SPELLED_ANEW = {
    "# Every estimator has one interface, and composes.": ("JointUORO(", "TruncatedBPTT(")
}
"""What the examples of version 0.1.0 must be told to write now, by their first lines."""


@pytest.mark.parametrize(
    "block", _blocks("tests/data/readme_0_1_0.md"), ids=lambda block: block.splitlines()[0][:40]
)
def test_examples_of_the_version_before_run_and_warn(block: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(block, encoding="utf-8")
    command = [sys.executable, "-W", "error::UserWarning", "-W", "always::DeprecationWarning"]
    done = subprocess.run(
        [*command, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    for wanted in re.findall(r"# prints (.+)$", block, re.MULTILINE):
        assert wanted in done.stdout, (wanted, done.stdout)
    for spelling in SPELLED_ANEW.get(block.splitlines()[0], ()):
        assert spelling in done.stderr, done.stderr


def test_the_readme_has_an_example_for_each_framework() -> None:
    blocks = "\n".join(_blocks("README.md"))
    for word in ("autograd", "import torch", "import jax"):
        assert word in blocks


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_what_is_said_of_ranks_stands_in_the_page_of_results() -> None:
    ranks, page = (
        (ROOT / "docs" / name).read_text(encoding="utf-8")
        for name in ("which.md", "reproduction.md")
    )
    for heading, least in (("### Noise by rank", 15), ("### Learning by rank", 10)):
        rows = _rows(ranks.split(heading)[1].split("\n### ")[0])
        assert len(rows) >= least, heading
        assert set(rows) <= set(_rows(page)), set(rows) - set(_rows(page))


def test_the_measurements_of_estimators_are_those_of_the_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    which = importlib.import_module("which")
    page, copy = ROOT / "docs" / "which.md", tmp_path / "which.md"
    text = page.read_text(encoding="utf-8")
    assert text.count(which.BEGIN) == text.count(which.END) == 1
    copy.write_text(text.replace("| `kron:2` |", "| `kron:9` |"), encoding="utf-8")
    which.write(copy, which.RESULTS)
    below, again = (
        each.split(which.BEGIN)[1].split(which.END)[0] for each in (text, copy.read_text("utf-8"))
    )
    assert below == again
    assert below.count("| `kron:2` |") == 4
    copy.write_text("prose\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"expected .*Below"):
        which.write(copy, which.RESULTS)


@pytest.mark.parametrize("name", ["peers", "right"])
def test_a_page_of_results_is_that_of_its_files(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module({"peers": "peers_conform", "right": "right_models"}[name])
    committed = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert module.page(module.RESULTS) == committed
    for file in module.RESULTS.iterdir():
        text = file.read_text(encoding="utf-8")
        changed = text.replace('"all": ', '"all": 7').replace('"status": 0', '"status": 1')
        assert changed != text
        (tmp_path / file.name).write_text(changed, encoding="utf-8")
    assert module.page(tmp_path) != committed


def test_the_page_of_the_default_beside_truncation_has_the_measured_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monday = importlib.import_module("monday")
    page = (ROOT / "docs" / "monday.md").read_text(encoding="utf-8")
    found = sorted((ROOT / "docs" / "monday").glob("*.json"))
    assert found
    for path in found:
        assert monday.table_of(json.loads(path.read_text(encoding="utf-8"))) in page, path.name
