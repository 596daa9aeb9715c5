"""What a learner draws for a wide state: six leaves, sixteen streams, more steps than the lags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.estimator import Estimate, Estimator, Guarantee, Sampler
from uoro.estimators import UORO
from uoro.estimators.streams import Streams
from uoro.learning.learner import Learner
from uoro_conformance.dependence import check_dependence
from uoro_conformance.finding import Finding
from uoro_conformance.signs import Held

STREAMS, RUNS = 16, 2

LARGE, LARGE_STEPS = 2**17, 2
"""How many entries one very large leaf has, and for how many steps it is drawn."""


def six_leaves(backend: Backend) -> dict[str, Any]:
    """Build a state with a scalar, an empty, a complex, an integer, a small and a large leaf.

    Those that the backend lacks are left out.
    """
    leaves = {
        "complex": np.zeros((2, 2), complex),
        "empty": np.zeros((0,)),
        "integer": np.zeros((3,), np.int32),
        "large": np.zeros((300,)),
        "scalar": np.zeros(()),
        "small": np.zeros((5,)),
    }
    missing = {"complex": "complex", "integer": "integers"}
    return {
        name: leaf for name, leaf in leaves.items() if missing.get(name, "") not in backend.lacks
    }


@dataclass(frozen=True)
class Drawing:
    """Draws what an estimator draws, reports it, and computes nothing."""

    estimator: Estimator

    @property
    def guarantee(self) -> Guarantee:
        """That of an estimator of which nothing is known."""
        return "biased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Any:
        """Build the empty carry."""
        return ()

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw what the estimator draws."""
        return self.estimator.draw(sampler, state)

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Report the signs."""
        zeros = dynamics.backend.zeros(params)
        return carry, state, Estimate(zeros.sum(), zeros, signs)


def wide_draws(
    backend: Backend, dtype: str, *, steps: int, seed: int = 0
) -> tuple[Any, dict[str, slice]]:
    """Return the signs that learners draw for sixteen streams of `six_leaves`.

    Returns:
        An array (runs, steps, streams, coordinates), and the coordinates of each part of a leaf:
        of a complex one, real and imaginary part are two.
    """
    host = {
        name: np.broadcast_to(leaf, (STREAMS, *leaf.shape))
        for name, leaf in six_leaves(backend).items()
    }
    state = backend.from_host({name: leaf.copy() for name, leaf in host.items()}, dtype=dtype)
    params, item = (backend.from_host(np.zeros(1), dtype=dtype) for _ in range(2))

    def transition(params: Any, state: Any, inputs: Any) -> Any:
        return state, params.sum()

    dynamics = backend.dynamics(transition, check=False)
    drawn, leaves = [], dict[str, slice]()
    parts: list[tuple[str, Any]] = []
    for run in range(RUNS):
        estimator = Drawing(Streams(UORO(), STREAMS))
        learner = Learner(dynamics, estimator, Held(), params, state, seed=seed * RUNS + run)
        rows = []
        for _ in range(steps):
            signs = backend.to_host(learner.step(item).aux)
            parts = list(_parts(backend, signs))
            rows.append(np.concatenate([part for _, part in parts], axis=1).astype(np.int8))
        drawn.append(np.stack(rows))
    start = 0
    for name, part in parts:
        leaves[name] = slice(start, start + part.shape[1])
        start += part.shape[1]
    return np.stack(drawn), leaves


def _parts(backend: Backend, signs: Any) -> Any:
    """Yield real numbers by name, one row a stream."""
    for name, leaf in backend.named_leaves(signs):
        rows: Any = np.asarray(leaf).reshape(STREAMS, -1)
        if np.iscomplexobj(rows):
            yield f"{name}, real", rows.real
            yield f"{name}, imaginary", rows.imag
        elif rows.size:
            yield name, rows


def check_wide_draws(backend: Backend, dtype: str, *, steps: int, seed: int = 0) -> Finding:
    """Check the draws of a learner for sixteen streams of `six_leaves`."""
    return check_dependence(*wide_draws(backend, dtype, steps=steps, seed=seed))


def check_large_draws(backend: Backend, dtype: str, *, seed: int = 0) -> Finding:
    """Check what a backend draws for one very large leaf."""
    like = backend.from_host(np.zeros(LARGE), dtype=dtype)
    key = backend.key(seed)
    rows = [
        np.asarray(backend.to_host(backend.random(backend.fold(key, n), like, "signs")))
        for n in range(LARGE_STEPS)
    ]
    draws = np.stack(rows)[None, :, None, :]
    return check_dependence(draws, {f"one of {LARGE:,} entries": slice(0, LARGE)})
