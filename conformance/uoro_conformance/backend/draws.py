"""Random draws of a backend: functions of their key, of the right shape and distribution."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from uoro.algebra import coordinates
from uoro.backend import Backend, Distribution
from uoro_conformance.backend.specimens import ROUNDING, flatten, judge
from uoro_conformance.finding import UNIT, Finding
from uoro_conformance.monte_carlo import check_mean

GAUSSIAN: tuple[Distribution, ...] = ("gaussian", "spherical")
"""The distributions other than signs."""


def check_draws(backend: Backend, dtype: str) -> Finding:
    """Check that draws are functions of their key, of the right shape, in the right support."""
    law, problems = "draws are functions of their key", list[str]()
    like = backend.from_host({"a": np.zeros((2, 3)), "b": np.zeros(3)}, dtype=dtype)
    key, wide = backend.key(3), backend.zeros(like, batch=(8,))
    keys = {
        "key(3)": key,
        "fold(key(3), 0)": backend.fold(key, 0),
        "fold(key(3), 1)": backend.fold(key, 1),
        "fold(fold(key(3), 0), 0)": backend.fold(backend.fold(key, 0), 0),
        "key(4)": backend.key(4),
        "fold(key(4), 0)": backend.fold(backend.key(4), 0),
    }
    drawn = {
        name: flatten(backend, backend.random(each, wide, "signs")) for name, each in keys.items()
    }
    for one, two in combinations(drawn, 2):
        if np.array_equal(drawn[one], drawn[two]):
            problems.append(f"{one} and {two} gave the same {drawn[one].size} signs")
    again = backend.random(backend.fold(backend.key(3), 0), wide, "signs")
    if not np.array_equal(drawn["fold(key(3), 0)"], flatten(backend, again)):
        problems.append("equal keys gave different draws")
    if not all(set(np.unique(draws)) <= {-1.0, 1.0} for draws in drawn.values()):
        problems.append("signs other than ±1")
    distributions: tuple[Distribution, ...] = (
        "signs",
        *(name for name in GAUSSIAN if name not in backend.lacks),
    )
    for each in distributions:
        shaped = backend.random(key, backend.zeros(like, batch=(2,)), each, (5,), 1)
        shapes = [tuple(leaf.shape) for _, leaf in backend.named_leaves(shaped)]
        if shapes != [(2, 5, 2, 3), (2, 5, 3)]:
            problems.append(f"{each}: batch=(5,), stacked=1 gave the shapes {shapes}")
    if "spherical" in distributions:
        draws = coordinates(backend, backend.random(key, like, "spherical", (4,)))
        lengths = np.linalg.norm(np.asarray(backend.to_host(draws), np.float64), axis=1)
        off = float(np.abs(lengths / 3.0 - 1.0).max())
        if not off <= ROUNDING * UNIT[dtype]:
            problems.append(f"the length of spherical draws is off by {off:.3g}")
    evidence = "; ".join(problems) or f"{len(keys)} keys, {len(distributions)} distributions."
    return judge(law, not problems, evidence)


def check_gaussian(backend: Backend, dtype: str, *, alpha: float = 1e-10, seed: int = 0) -> Finding:
    """Check mean, variance and covariance of Gaussian and spherical draws, by sampling."""
    like = backend.from_host({"a": np.zeros(2), "b": np.zeros(())}, dtype=dtype)

    def sample(number: int) -> Any:
        key, columns = backend.fold(backend.key(seed), number), []
        for index, distribution in enumerate(GAUSSIAN):
            draws = backend.random(backend.fold(key, index), like, distribution, (2048,))
            rows = np.asarray(backend.to_host(coordinates(backend, draws)), np.float64)
            columns += [rows[:, i] for i in range(3)]
            columns += [rows[:, i] * rows[:, j] for i in range(3) for j in range(i + 1)]
        return np.stack(columns, axis=1)

    moments = [f"mean of {i}" for i in range(3)]
    moments += [f"mean of {i} × {j}" for i in range(3) for j in range(i + 1)]
    names = [f"{each}: {moment}" for each in GAUSSIAN for moment in moments]
    exact = [0.0, 0.0, 0.0, *(float(i == j) for i in range(3) for j in range(i + 1))] * 2
    found = check_mean(
        sample,
        exact,
        names,
        delta=0.2,
        alpha=alpha,
        law="Gaussian and spherical ν have E[ν νᵀ] = I",
    )
    return found._replace(verdict="broken") if found.verdict == "biased" else found
