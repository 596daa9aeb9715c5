"""The resident memory of this process, as Linux reports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Return the bytes of the resident set; ``None`` where the system does not report them."""
    try:
        return _kibibytes("VmRSS") * 1024
    except (OSError, KeyError):
        return None


def watch_resident() -> Callable[[], int | None]:
    """Reset the peak, and return a function that returns by how many bytes the set grew at most.

    The function returns ``None`` where the system does not report the peak or cannot reset it,
    because the peak would then be that of earlier work.
    """
    try:
        CLEAR.write_text("5")
        before = _kibibytes("VmRSS")
    except (OSError, KeyError):
        return lambda: None
    return lambda: max(0, _kibibytes("VmHWM") - before) * 1024


def _kibibytes(field: str) -> int:
    lines = STATUS.read_text().splitlines()
    return {line.partition(":")[0]: int(line.split()[1]) for line in lines if "kB" in line}[field]
