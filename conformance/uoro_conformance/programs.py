"""Compiled programs: kept while several checks use them, dropped when no further check does."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from uoro.backend import Backend, DropsPrograms
from uoro_conformance.profiles import Profile

_caches = list[Any]()


@runtime_checkable
class CompilesFast(Protocol):
    """A backend that can trade the speed of its programs for that of its compiler."""

    def compile_fast(self) -> None:
        """Compile fast from now on, in the whole process; called before anything is compiled."""
        ...


def compile_fast(backend: Backend, profile: Profile) -> None:
    """Have a backend compile fast, if it can and the profile runs programs only for a moment."""
    if profile.fast and isinstance(backend, CompilesFast):
        backend.compile_fast()


def kept(most: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that keeps the last ``most`` results until `drop_programs` is called."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        cached = lru_cache(maxsize=most)(function)
        _caches.append(cached)
        return cached

    return decorate


def drop_programs(backend: Backend) -> None:
    """Drop the programs that the suite keeps, and those that the backend's framework keeps.

    Thousands of small programs would otherwise stay in memory for the whole run: 4.4 GB on JAX.
    """
    for cache in _caches:
        cache.cache_clear()
    if isinstance(backend, DropsPrograms):
        backend.drop_programs()
