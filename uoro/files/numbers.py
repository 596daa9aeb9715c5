"""Numbers for JSON, and floats that JSON cannot write, back."""

from __future__ import annotations

from typing import Any

# The strings of `uoro.files.results.finite`.
_WORDS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def plain(value: Any) -> Any:
    """Return a document with Python numbers in place of array scalars."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    return value


def floats(value: Any) -> Any:
    """Return a document with infinities and NaN as floats again; undoes `finite`."""
    if isinstance(value, str):
        return _WORDS.get(value, value)
    if isinstance(value, dict):
        return {name: floats(item) for name, item in value.items()}
    if isinstance(value, list):
        return [floats(item) for item in value]
    return value
