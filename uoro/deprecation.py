"""Deprecated public names: each works for one release and warns with the new name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def renamed(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that an old spelling is deprecated.

    Args:
        old: The old spelling, as the user wrote it.
        new: What to write instead.
        stacklevel: Number of calls from the user's line to this function.
    """
    warnings.warn(
        f"{old} is deprecated and goes with the next minor release. Write {new}.",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def moved_names(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module ``__getattr__`` that finds moved names in their new modules.

    Args:
        module: Name of the module that had the names.
        places: The new place ``"package.module:name"`` of each old name.
    """

    def look_up(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = places[name].partition(":")
        renamed(f"{module}.{name}", f"{place}.{new}", stacklevel=2)
        return getattr(import_module(place), new)

    return look_up
