"""The suite in processes of its own, as a stranger runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STRICTLY = [
    "-Werror",
    # torch.func.vmap, on its first call, imports a module of torch's own that still scripts.
    "-Wignore:`torch.jit.script` is deprecated:DeprecationWarning",
    "-Wignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
]


def run(
    arguments: Sequence[str], folder: Path, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own, warnings being errors."""
    environment = dict(os.environ)
    if path is not None:
        others = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(path), *([others] if others else [])])
    strictly = [] if arguments[0] == "pip" else STRICTLY
    return subprocess.run(
        [sys.executable, *strictly, "-m", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )


def run_suite_command(folder: Path, *arguments: str, path: Path | None = None) -> tuple[Any, Any]:
    """Run the command of the suite; give what it did and the report it wrote."""
    report = folder / "report.json"
    done = run(["uoro_conformance", *arguments, "--report", str(report)], folder, path)
    written = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
    return done, written
