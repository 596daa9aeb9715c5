"""Backends with one method that is wrong at sizes beyond the smallest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from uoro.backend import Backend


def altered_backend(backend: Backend, **methods: Any) -> Any:
    """Return a copy of a backend with some methods replaced, which it also uses itself."""
    made = copy.copy(backend)
    for name, method in methods.items():
        setattr(made, name, method)
    return made


def _combine(backend: Backend) -> Any:
    return altered_backend(backend, combine=lambda *terms: backend.combine(*terms[:2]))


def _combine_many(backend: Backend) -> Any:
    def combine(*terms: Any) -> Any:
        return backend.combine(*terms[:3], *((1.001 * f, tree) for f, tree in terms[3:]))

    return altered_backend(backend, combine=combine)


def _kept(backend: Backend, tree: Any, most: int) -> Any:
    """Set all leaves but the first few to zero."""
    count = iter(range(len(backend.named_leaves(tree))))
    return backend.map(lambda leaf: leaf * (1.0 if next(count) < most else 0.0), tree)


def _inner(backend: Backend) -> Any:
    return altered_backend(backend, inner=lambda x, y: backend.inner(_kept(backend, x, 8), y))


def _norm_of_leaves(backend: Backend) -> Any:
    def with_norms(make: Any) -> Any:
        trees, _ = backend.with_norms(make)
        _, norms = backend.with_norms(lambda: tuple(_kept(backend, tree, 16) for tree in trees))
        return trees, norms

    return altered_backend(backend, with_norms=with_norms)


def _norm_of_trees(backend: Backend) -> Any:
    def with_norms(make: Any) -> Any:
        trees, norms = backend.with_norms(make)
        return trees, [*norms[:4], *(norms[0] for _ in norms[4:])]

    return altered_backend(backend, with_norms=with_norms)


def _vmap(backend: Backend) -> Any:
    def vmap(function: Any) -> Any:
        def repeated(leaf: Any) -> Any:
            last = int(leaf.shape[0]) - 1
            return backend.xp.stack([leaf[min(n, 31, last)] for n in range(last + 1)])

        return lambda *stacks: backend.map(repeated, backend.vmap(function)(*stacks))

    return altered_backend(backend, vmap=vmap)


def _scan(backend: Backend) -> Any:
    def scan(
        body: Any, carry: Any, items: Any, *, reverse: bool = False, bounds: Any = None
    ) -> Any:
        if bounds is None:
            bounds = (0, min(64, int(backend.named_leaves(items)[0][1].shape[0])))
        return backend.scan(body, carry, items, reverse=reverse, bounds=bounds)

    return altered_backend(backend, scan=scan)


def _matmul(backend: Backend) -> Any:
    return altered_backend(
        backend, matmul=lambda one, other: backend.matmul(one[..., :64], other[:64])
    )


WRONG_SIZES: dict[str, Callable[[Backend], Any]] = {
    "combine drops the third term": _combine,
    "combine is off from the fourth term on": _combine_many,
    "inner leaves out the ninth leaf": _inner,
    "norm leaves out the seventeenth leaf": _norm_of_leaves,
    "the fifth norm is the first": _norm_of_trees,
    "vmap repeats the thirty-second entry": _vmap,
    "scan stops after 64 entries": _scan,
    "matmul stops after 64 columns": _matmul,
}
"""From a backend to one that is wrong at some size; all are refused by ``backend/sizes``."""
