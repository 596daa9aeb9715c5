"""Numbers on their way into JSON and back."""

from __future__ import annotations

from typing import Any

# What `uoro.files.results.finite` makes of the floats that JSON cannot say.
_WORDS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def plain(value: Any) -> Any:
    """Make Python's numbers of those of arrays."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    return value


def floats(value: Any) -> Any:
    """Undo what `finite` does."""
    if isinstance(value, str):
        return _WORDS.get(value, value)
    if isinstance(value, dict):
        return {name: floats(item) for name, item in value.items()}
    if isinstance(value, list):
        return [floats(item) for item in value]
    return value
