"""The core imports no array library and no framework; nothing happens at import."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import uoro

CORE = Path(uoro.__file__).parent
OUTER = {"files", "models", "tables", "tasks", "checkpoint", "training", "lab", "cli", "drawing.py"}
FRAMEWORKS = {"numpy", "torch", "jax", "autograd", "optax", "optree", "matplotlib", "rich", "typer"}


def _core_files() -> list[Path]:
    files = [
        path
        for path in CORE.rglob("*.py")
        if path.relative_to(CORE).parts[0] not in OUTER and path.name != "host_noise.py"
    ]
    assert CORE / "estimators" / "uoro.py" in files
    return files


@pytest.mark.parametrize("path", _core_files(), ids=lambda path: path.name)
def test_the_algorithms_import_no_array_library(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        roots = {name.partition(".")[0] for name in names}
        assert not roots & FRAMEWORKS, f"{path.name} imports {roots & FRAMEWORKS}"


def test_importing_the_package_loads_no_array_library() -> None:
    code = f"import sys, uoro; print(sorted(set(sys.modules) & {FRAMEWORKS!r}))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"


def test_loading_one_backend_loads_no_other_framework() -> None:
    code = (
        "import sys, uoro; uoro.load_backend('autograd'); "
        "print(sorted(set(sys.modules) & {'torch', 'jax', 'optax'}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"


def test_the_lint_rule_refuses_a_framework_in_the_core() -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    assert ruff is not None, "ruff is a development dependency"
    root = CORE.parent
    for module, path, refused in (
        ("numpy", "uoro/estimators/uoro.py", True),
        ("torch", "uoro/learning/learner.py", True),
        ("numpy", "uoro/tasks/text.py", False),
        ("torch", "backends/uoro_torch/backend.py", False),
    ):
        result = subprocess.run(
            [ruff, "check", "--select", "TID251", "--stdin-filename", path, "-"],
            input=f"import {module}\n",
            capture_output=True,
            text=True,
            cwd=root,
            check=False,
        )
        assert ("TID251" in result.stdout) == refused, (module, path, result.stdout)
