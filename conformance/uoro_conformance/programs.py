"""Compiled programs: kept while several checks use them, dropped when no further check does."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from uoro.backend import Backend, DropsPrograms

_caches = list[Any]()


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
