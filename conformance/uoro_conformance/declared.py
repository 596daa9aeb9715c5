"""Whether an estimator is what it declares: exact, unbiased, or biased, and by how much."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from uoro.estimator import Estimator, guarantee_of
from uoro.estimators import RTRL
from uoro.estimators.kronecker_carry import KroneckerInfluence
from uoro_conformance.apparatus import compiled_step
from uoro_conformance.exact import check_chain, check_gradient_path
from uoro_conformance.finding import UNIT, Finding, length, length_of_sum, precision_of, worst
from uoro_conformance.free_runs import check_by_sampling
from uoro_conformance.systems import Trial
from uoro_conformance.terms import check_chain_of_terms

EXACT = 1e5
"""How many units of roundoff, relative to the exact gradient, an exact one may be off after the
whole trial."""


def check_unbiased(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Compare an estimator's mean gradient with exact RTRL's, whatever it declares.

    By the strongest means there is: directly if it draws no noise, by the exact tier if it
    carries a pair ``tangent``, ``cotangent`` or Kronecker sums, by sampling otherwise.

    Returns:
        *biased* with the size of the bias, and its sign where there is no noise.
    """
    if _noise(trial, estimator, seed) is None:
        return _compare_with_rtrl(trial, estimator, seed)
    start = trial.carry_of(estimator)
    if isinstance(start, KroneckerInfluence) and not start.rest:
        kronecker: Any = estimator
        return check_chain_of_terms(trial, kronecker, seed=seed)
    if hasattr(start, "tangent") and hasattr(start, "cotangent"):
        return worst(
            [check(trial, estimator, seed=seed) for check in (check_chain, check_gradient_path)]
        )
    return check_by_sampling(trial, estimator, seed=seed)


def check_declaration(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Check that an estimator is what its ``guarantee`` declares.

    Returns:
        *biased* if it declares itself exact or unbiased and is not. One that declares itself
        biased is what it declares; the evidence then has the bias.
    """
    guarantee = guarantee_of(estimator)
    law = f"{_name(estimator)} is {guarantee}, as it declares"
    if guarantee == "exact":
        return _compare_with_rtrl(trial, estimator, seed)._replace(law=law)
    found = check_unbiased(trial, estimator, seed=seed)
    if guarantee == "unbiased":
        return found._replace(law=law)
    evidence = found.evidence if found.verdict == "biased" else f"No bias here. {found.evidence}"
    if found.verdict in ("biased", "holds"):
        return Finding(law, "holds", found.gap, math.inf, evidence, trial.line)
    return found._replace(law=law)


def _name(estimator: Estimator) -> str:
    return str(getattr(estimator, "name", estimator))


def _noise(trial: Trial, estimator: Estimator, seed: int) -> Any:
    backend = trial.dynamics.backend
    key = backend.fold(backend.key(seed), 0)
    return estimator.draw(partial(backend.random, key), trial.state)


def _compare_with_rtrl(trial: Trial, estimator: Estimator, seed: int) -> Finding:
    """Follow an estimator and RTRL side by side, and compare their gradients step by step."""
    law = "the gradient is RTRL's"
    dynamics, backend, exact = trial.dynamics, trial.dynamics.backend, RTRL()
    dtype = precision_of(backend, trial.state, trial.params[0])
    allowed = EXACT * UNIT[dtype]
    key, state = backend.key(seed), trial.state
    carry = trial.carry_of(estimator)
    influence = exact.init(dynamics, trial.params[0], state)
    follow, follow_exact = compiled_step(dynamics, estimator), compiled_step(dynamics, exact)
    worst_gap, evidence = 0.0, ""
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        signs = estimator.draw(partial(backend.random, backend.fold(key, step)), state)
        carry, _, estimate = follow(params, carry, state, item, signs)
        influence, state, expected = follow_exact(params, influence, state, item, None)
        got, true = estimate.gradient, expected.gradient
        error = length_of_sum(backend, (1.0, got), (-1.0, true))
        sizes = length(backend, got), length(backend, true)
        gap = error / sizes[1] if sizes[1] else error
        if not math.isfinite(gap):
            evidence = f"At step {step}: ‖gradient‖ = {sizes[0]}, ‖exact‖ = {sizes[1]}."
            return Finding(law, "unverifiable", math.nan, allowed, evidence, trial.line)
        if gap >= worst_gap:
            worst_gap = gap
            product = sizes[0] * sizes[1]
            cosine = float(backend.inner(got, true)) / product if product else math.nan
            sign = ": the wrong sign" if cosine < 0 else ""
            evidence = (
                f"At step {step}: ‖gradient - exact‖ = {error:.3g}, ‖exact‖ = {sizes[1]:.3g}, "
                f"cosine {cosine:.3f}{sign}."
            )
    return Finding(
        law,
        "holds" if worst_gap <= allowed else "biased",
        worst_gap,
        allowed,
        f"The bias reaches {worst_gap:.2%}. {evidence}" if worst_gap > allowed else evidence,
        trial.line,
    )
