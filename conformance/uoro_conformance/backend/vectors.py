"""Sums, products and norms of trees, against NumPy."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from uoro.algebra import basis, coordinates, norm
from uoro.backend import Backend
from uoro_conformance.backend.specimens import (
    ROUNDING,
    compare,
    example_stack,
    example_tree,
    flatten,
)
from uoro_conformance.finding import UNIT, Finding, largest, worst

EXTREMES = {
    "float64": (1e-200, 1e-160, 1.0, 1e160, 1e200),
    "float32": (1e-30, 1e-20, 1.0, 1e20, 1e30),
}
"""Sizes at which sums of squares underflow or overflow, by dtype."""


def check_algebra(backend: Backend, dtype: str) -> Finding:
    """Check `combine`, `inner`, `matmul` and the derived unit tangents against NumPy."""
    host = [
        backend.to_host(backend.from_host(example_tree(seed), dtype=dtype)) for seed in range(2)
    ]
    x, y = (backend.from_host(tree) for tree in host)
    a, b = (flatten(backend, tree) for tree in (x, y))
    matrix = np.random.default_rng(5).normal(size=(3, 4)).astype(dtype)
    weights, rows = backend.from_host(matrix), backend.from_host(example_stack(4), dtype=dtype)
    laid_out = coordinates(backend, rows)
    numbers = np.asarray(backend.to_host(laid_out), np.float64)
    units = coordinates(backend, basis(backend, x))
    scaled = backend.combine((norm(backend, x), x), (-2.5, y))
    agree = partial(compare, backend=backend, dtype=dtype)
    return worst(
        [
            agree("combine adds up", got=scaled, expected=np.linalg.norm(a) * a - 2.5 * b),
            agree("inner sums products", got=backend.inner(x, y), expected=np.asarray(a @ b)),
            agree(
                "matmul multiplies",
                got=backend.matmul(weights, coordinates(backend, rows)),
                expected=matrix.astype(float)
                @ np.asarray(backend.to_host(coordinates(backend, rows))),
            ),
            agree(
                "matmul takes a vector",
                got=backend.matmul(weights[0], laid_out),
                expected=matrix[0].astype(np.float64) @ numbers,
            ),
            agree("basis lists the unit vectors", got=units, expected=np.eye(len(a))),
        ]
    )._replace(law="vector algebra is NumPy's")


def check_norm(backend: Backend, dtype: str) -> Finding:
    """Check that norms are accurate from the smallest to the largest numbers, and 0 only for 0.

    `with_norms` must return the trees that were built and the norm of each: for one tree, for
    trees of very different sizes at once, and for outer products built inside.
    """
    law = "norm neither overflows nor underflows"
    allowed, gaps = ROUNDING * UNIT[dtype], dict[str, float]()
    trees, norms = dict[str, Any](), dict[str, float]()
    for scale in EXTREMES[dtype]:
        tree = {"a": scale * np.array([3.0, 0.0]), "b": np.array(-4.0 * scale)}
        for parts, expected in ((tree, 5.0 * scale), ({"a": tree["a"]}, 3.0 * scale)):
            trees[f"{expected:g}"] = backend.from_host(parts, dtype=dtype)
            norms[f"{expected:g}"] = expected
    trees["0"], norms["0"] = backend.from_host(np.zeros(3), dtype=dtype), 0.0
    for name, x in trees.items():
        gaps[name] = _gap(norm(backend, x), norms[name])
    smallest, *_, largest_one = EXTREMES[dtype]
    together = [f"{5.0 * scale:g}" for scale in (smallest, largest_one)] + ["0"]
    for names in ([together[0]], [together[1]], [together[2]], together):
        given = tuple(trees[name] for name in names)
        made, found = backend.with_norms(lambda given=given: given)  # type: ignore[misc]  # bound early
        gaps["of one tree" if len(names) == 1 else "of three trees of different sizes"] = largest(
            [
                *(_gap(got, norms[name]) for got, name in zip(found, names, strict=True)),
                *(
                    float(np.abs(flatten(backend, got) - flatten(backend, x)).max() > 0)
                    for got, x in zip(made, given, strict=True)
                ),
                abs(len(made) - len(names)) + abs(len(found) - len(names)),
            ]
        )
    for left, right in ((1.0, 1.0), (smallest, largest_one), (largest_one, smallest), (0.0, 1.0)):
        gaps[f"of an outer product of {left:g} and {right:g}"] = _outer_gap(
            backend, dtype, left, right
        )
    where = max(gaps, key=lambda name: largest([gaps[name]]))
    gap = largest(gaps.values())
    evidence = f"{len(gaps)} cases; the largest gap, {gap:.3g}, where the norm is {where}."
    return Finding(law, "holds" if gap <= allowed else "broken", gap, allowed, evidence)


def _gap(got: Any, expected: float) -> float:
    return abs(float(got) - expected) / (expected or 1.0)


def _outer_gap(backend: Backend, dtype: str, left: float, right: float) -> float:
    """Return the largest gap of a tree with an outer product in it, and of its norm."""
    column, row = left * np.array([[3.0], [0.0], [4.0]]), right * np.array([[-5.0, 12.0]])
    factors = backend.from_host((column, row), dtype=dtype)
    alone = backend.from_host(np.array([2.0, -1.0]), dtype=dtype)

    def make() -> tuple[Any, Any]:
        return {"alone": alone, "outer": backend.matmul(*factors)}, alone

    (made, same), norms = backend.with_norms(make)
    flat = np.concatenate([[2.0, -1.0], (column @ row).reshape(-1)])
    expected = float(np.linalg.norm(flat)), math.sqrt(5.0)
    return largest(
        [
            *(_gap(got, true) for got, true in zip(norms, expected, strict=True)),
            float(np.linalg.norm(flatten(backend, made) - flat)) / expected[0],
            float(np.linalg.norm(flatten(backend, same) - flat[:2])),
        ]
    )
