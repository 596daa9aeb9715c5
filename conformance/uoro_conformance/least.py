"""The variance that joint pairs add at a step: reported, measured, and the least possible."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from uoro.algebra import entry, size
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro_conformance.apparatus import Apparatus, apparatus
from uoro_conformance.dense import SQUARED, reduce_densely
from uoro_conformance.designs import as_noise, draws_of
from uoro_conformance.exact import at_scale
from uoro_conformance.finding import Finding, Verdict, worst
from uoro_conformance.memory import UNIT, memory_precision
from uoro_conformance.parity import matrix
from uoro_conformance.systems import Trial

MOST_COORDINATES = 8


def check_added_variance(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Check the variance that the reduction of joint pairs adds, over all signs σ there are.

    At each carry of one path, and at a random one, it must be what the carry reports as
    ``added``, whatever σ; and the least of all unbiased estimates of that rank, as computed from
    the singular values of the mean.

    Args:
        trial: Trial to run on; its state has at most 8 coordinates.
        estimator: Estimator under test; its carry has ``tangent``, ``cotangent`` and ``added``.
        seed: Seed of the path, the random pairs and the signs of the projections.

    Returns:
        *broken* if another variance is reported than there is, or if there is less than can be;
        *not Algorithm 1* if there is more than must be, which says nothing about bias.

    Raises:
        SettingError: If the estimator is none of joint pairs, or the state is too large.
    """
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    n = size(backend, trial.state)
    if not lab.joint or n > MOST_COORDINATES:
        raise SettingError(
            f"check_added_variance({estimator}): expected an estimator of joint pairs, on a state "
            f"of at most {MOST_COORDINATES} coordinates, got {n} coordinates. Try JointUORO."
        )
    dtype = memory_precision(trial, lab.estimator)
    carry, state, found = trial.carry_of(estimator), trial.state, list[Finding]()
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        number = seed * 1000 + step
        drawn = _all_signs(lab, state, number)
        random = at_scale(lab, carry, 1.0, number)
        for where, at in (("", carry), (" from a random carry", random)):
            judged = _judge(lab, dtype, params, at, state, item, drawn)
            found.append(judged._replace(evidence=f"step {step}{where}: {judged.evidence}"))
        carry, state, _ = lab.step(params, carry, state, item, drawn[number % len(drawn)])
    return worst(found)._replace(system=trial.line)


def _all_signs(lab: Apparatus, state: Any, seed: int) -> list[Any]:
    """List sign trees: all signs for the reduction, one draw for the projections."""
    n, draws = size(lab.backend, state), draws_of(lab.estimator)
    every = np.array(list(product((-1.0, 1.0), repeat=n)))
    first = np.random.default_rng(seed).choice([-1.0, 1.0], n * (draws - 1))
    rows = np.concatenate([np.tile(first, (len(every), 1)), every], axis=1)
    stack = as_noise(lab.backend, state, rows, draws)
    return [entry(lab.backend, stack, index) for index in range(len(rows))]


def _judge(
    lab: Apparatus, dtype: str, params: Any, carry: Any, state: Any, item: Any, drawn: list[Any]
) -> Finding:
    """Judge one step from one carry."""
    law, backend, rank = "the variance is as reported, and the least", lab.backend, lab.rank
    estimates, reported = list[Any](), list[float]()
    for signs in drawn:
        after, _, _ = lab.step(params, carry, state, item, signs)
        pairs = (matrix(backend, part, rank) for part in (after.tangent, after.cotangent))
        tangents, cotangents = pairs
        estimates.append(tangents.T @ cotangents)
        reported.append(float(after.added))
    every = np.array(estimates)
    mean, square = every.mean(0), float((every**2).sum((1, 2)).mean())
    variance = float(((every - mean) ** 2).sum((1, 2)).mean())
    least = reduce_densely(mean, rank).added if np.isfinite(mean).all() else math.nan
    allowed = SQUARED * UNIT[dtype] ** 0.5
    scale = square or 1.0
    false = max(abs(value - variance) for value in reported) / scale
    more = (variance - least) / scale
    evidence = (
        f"reported {reported[0]:.4g}, over {len(every)} signs it is {variance:.4g}, least is "
        f"{least:.4g}."
    )
    verdict: Verdict = "holds"
    if not math.isfinite(false + more):
        verdict = "unverifiable"
    elif false > allowed or more < -allowed:
        verdict = "broken"
    elif more > allowed:
        verdict = "not Algorithm 1"
    return Finding(law, verdict, max(false, abs(more)), allowed, evidence)
