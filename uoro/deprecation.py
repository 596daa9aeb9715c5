"""Deprecated public names: each works for one release and warns with the new name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from types import MappingProxyType
from typing import Any, TypeVar

Callable_ = TypeVar("Callable_", bound=Callable[..., Any])


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


def moved_names(
    module: str, places: Mapping[str, str], *, later: Mapping[str, str] = MappingProxyType({})
) -> Callable[[str], Any]:
    """Return a module ``__getattr__`` that finds moved names in their new modules.

    Args:
        module: Name of the module that had the names.
        places: The new place ``"package.module:name"`` of each old name, and behind an equals sign
            what to write instead where that is something else.
        later: Places of present names that are imported when they are first used.
    """

    def look_up(name: str) -> Any:
        if name in later:
            place, _, present = later[name].partition(":")
            return getattr(import_module(place), present)
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        moved, _, instead = places[name].partition(" = ")
        place, _, new = moved.partition(":")
        renamed(f"{module}.{name}", instead or f"{place}.{new}", stacklevel=2)
        return getattr(import_module(place), new)

    return look_up


def renamed_keywords(
    call: str, names: Mapping[str, str], *, positional: tuple[str, ...] = ()
) -> Callable[[Callable_], Callable_]:
    """Return a decorator of a function or a class that accepts old keywords, with a warning.

    Args:
        call: Name of the function as the user writes it.
        names: New keyword for each old one.
        positional: Keywords that were positional before, after the parameters that still are.
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, type):
            kind: Any = function
            kind.__init__ = decorate(kind.__init__)
            return kind
        most = function.__code__.co_argcount

        @wraps(function)
        def accepting(*args: Any, **given: Any) -> Any:
            for new, value in zip(positional, args[most:], strict=False):
                renamed(f"{call}(...) with a positional {new}", f"{call}({new}=...)")
                given.setdefault(new, value)
            for old in names.keys() & given.keys():
                if names[old] not in given:
                    renamed(f"{call}({old}=...)", f"{call}({names[old]}=...)")
                    given[names[old]] = given.pop(old)
            return function(*args[:most], *args[most + len(positional) :], **given)

        return accepting

    return decorate
