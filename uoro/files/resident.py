"""The memory of this process, as Linux tells it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Give the bytes of the resident set, where the system tells."""
    try:
        return _kibibytes("VmRSS") * 1024
    except (OSError, KeyError):
        return None


def watch_resident() -> Callable[[], int | None]:
    """Forget the peak so far; the result gives the bytes by which the resident set grew at most.

    Where the system does not tell, or cannot forget a peak, it gives ``None``: the peak of a
    process that has run other rows before would be theirs.
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
