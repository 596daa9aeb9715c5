"""The law of the diagonal baseline: beside it, pairs are unbiased, by enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from uoro.algebra import coordinates, mean, repeat, size
from uoro.dynamics import Dynamics
from uoro.estimators import RTRL
from uoro.estimators.baseline import BesideSigns
from uoro_conformance.designs import as_noise, draws_of
from uoro_conformance.finding import UNIT, Finding, largest, precision_of, relative_gap


def check_mean_beside(
    dynamics: Dynamics[Any, Any, Any],
    params: Sequence[Any],
    state: Any,
    items: Sequence[Any],
    estimator: Any,
    *,
    seed: int = 0,
    tolerance: float | None = None,
) -> Finding:
    """Compare the mean gradients over all signs of an estimator with a baseline with exact RTRL.

    The probes of the baseline are one random draw: the mean over the signs is RTRL's for any.

    Args:
        dynamics: The model.
        params: One tree of params for each step; let them differ.
        state: State before the first step.
        items: One item of the stream for each step. The signs of the last step change nothing that
            is compared, and are not enumerated.
        estimator: Estimator under test; without a baseline, for its standard deviation beside one.
        seed: Seed of the probes.
        tolerance: The relative error that counts as rounding; 1e4 units of it if not given.
    """
    backend, exact = dynamics.backend, RTRL()
    if tolerance is None:
        tolerance = 1e4 * UNIT[precision_of(backend, state, params[0])]
    n, draws, free = size(backend, state), draws_of(estimator), len(items) - 1
    table = np.array(list(product((-1.0, 1.0), repeat=n * draws * free)))
    count, generator = len(table), np.random.default_rng(seed)

    def step(theta: Any, carry: Any, state: Any, item: Any, signs: Any, probes: Any) -> Any:
        def one(carry: Any, signs: Any) -> Any:
            signs = signs if estimator.baseline is None else BesideSigns(signs, probes)
            carry, _, estimate = estimator.step(dynamics, theta, carry, state, item, signs)
            return carry, estimate.gradient

        carry, gradients = backend.vmap(one)(carry, signs)
        spread = (coordinates(backend, gradients).std(0) ** 2).sum() ** 0.5
        return carry, mean(backend, gradients), spread

    estimate_step = backend.compile(step)
    carry = repeat(backend, estimator.init(dynamics, params[0], state, inputs=items[0]), count)
    influence = exact.init(dynamics, params[0], state)
    gaps, spreads = list[float](), list[float]()
    for number, (theta, item) in enumerate(zip(params, items, strict=True)):
        at = min(number, free - 1) * n * draws
        signs = as_noise(backend, state, table[:, at : at + n * draws], draws)
        probes = as_noise(backend, state, generator.choice([-1.0, 1.0], (estimator.probes, n)), 1)
        carry, average, spread = estimate_step(theta, carry, state, item, signs, probes)
        influence, state, estimate = exact.step(dynamics, theta, influence, state, item, None)
        gaps.append(relative_gap(backend, average, estimate.gradient))
        spreads.append(float(spread))
    return Finding(
        law="the mean over all signs, beside a baseline, is RTRL",
        verdict="holds" if largest(gaps) <= tolerance else "biased",
        gap=largest(gaps),
        allowed=tolerance,
        evidence=(
            f"{estimator} over {count} sequences of signs, {len(items)} steps, {n} state "
            f"coordinates, backend {backend.name}: relative errors of the mean gradients "
            f"{', '.join(f'{gap:.2g}' for gap in gaps)}; standard deviations "
            f"{', '.join(f'{spread:.2g}' for spread in spreads)}."
        ),
    )
