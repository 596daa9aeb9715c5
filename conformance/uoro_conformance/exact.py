"""Unbiasedness without statistics, one step at a time, for any pair-carrying estimator.

Conditional on the carry, one step of UORO adds up to ``a ⊗ b + ν νᵀ K`` and terms odd in ν, with
a = ∂F/∂s · s̃, b = θ̃, K = ∂F/∂θ. So any set of ν closed under negation with mean(ν νᵀ) = I gives
the conditional mean exactly. That it is right at every pair, with fresh independent ν and a zero
start, makes the estimator unbiased for all times.

A set with another mean(ν νᵀ) = M must give ``a ⊗ b + M K``, exactly as well. That is how a model
too large for balanced designs is checked, on random projections.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uoro.algebra import basis
from uoro.estimator import Estimator
from uoro_conformance.apparatus import Apparatus, Measurement, apparatus
from uoro_conformance.designs import balanced, gaussian
from uoro_conformance.finding import (
    REFUSALS,
    Finding,
    Verdict,
    largest,
    length,
    length_of_sum,
    precision_of,
    relative_gap,
    worst,
)
from uoro_conformance.memory import ROUNDING, UNIT, memory_precision
from uoro_conformance.programs import kept
from uoro_conformance.systems import Trial

NOISIEST = 1e3
"""Where the average size of a term exceeds the true mean by more, nothing follows."""

FAINT = 1e-6
"""Terms as small as ε makes them, where there is no influence at all, drown nothing."""

SCALES = {"float64": (1e-8, 1e-3, 1.0, 1e4), "float32": (1e-3, 1.0)}
"""Scales of the random pairs that the chain also starts from."""


class Seen(NamedTuple):
    """One measurement: where it was made, what it gave, and how to make it again."""

    where: str
    measured: Measurement
    again: Callable[[], Measurement]


def check_chain(
    trial: Trial,
    estimator: Estimator,
    *,
    seed: int = 0,
    projections: int | None = None,
    batched: bool = True,
) -> Finding:
    """Check that each step's conditional mean is RTRL's, at every pair on the way.

    The pairs are those of one path of signs from the zero start, and random ones at scales
    from 1e-8 to 1e4. For estimators whose normalisers are even in ν, as all of Algorithm 1's kind.

    Args:
        trial: Trial to run on.
        estimator: Estimator under test; its carry has ``tangent`` and ``cotangent``.
        seed: Seed of the path and the random pairs.
        projections: If given, look at that many random projections of the state, under a few
            random sign designs, instead of at the whole influence under balanced ones. The
            identity is exact either way.
        batched: Whether the backend may map over the designs; otherwise Python loops.

    Returns:
        *biased* with the relative error of the mean; *unverifiable* where the terms are so large
        that rounding covers everything, or not finite, or where measuring again gives something
        else.
    """
    law, backend = "each step's mean is RTRL's", trial.dynamics.backend
    dtype = memory_precision(trial, estimator)
    start = trial.carry_of(estimator)
    if length(backend, start.tangent) * length(backend, start.cotangent) > 0:
        evidence = "The initial carry is not zero."
        return Finding(law, "biased", math.inf, ROUNDING[dtype], evidence, trial.line)

    def judge(measured: Measurement) -> tuple[Verdict, float, str]:
        error, weight = float(measured.error), float(measured.weight)
        exact, scale = float(measured.exact), float(measured.scale)
        units = _units(error, weight, dtype)
        evidence = (
            f"‖mean - exact‖ = {error:.3g}, ‖exact‖ = {exact:.3g}, terms of size {weight:.3g}."
        )
        if not (math.isfinite(error) and math.isfinite(weight)):
            return "unverifiable", math.nan, f"not finite. {evidence}"
        if units > ROUNDING[dtype]:
            relative = f"{error / exact:.2%}" if exact else "all of it"
            return "biased", units, f"the mean is off by {relative}. {evidence}"
        if weight > NOISIEST * scale + FAINT:
            return "unverifiable", units, f"noise drowns all. {evidence}"
        return "holds", units, evidence

    return _follow(law, judge, trial, estimator, seed, projections, batched)


def check_gradient_path(
    trial: Trial,
    estimator: Estimator,
    *,
    seed: int = 0,
    projections: int | None = None,
    batched: bool = True,
) -> Finding:
    """Check that the gradient is ``∂ℓ/∂s · (influence of the old pair) + ∂ℓ/∂θ``.

    No averaging: under every design of signs, at every pair that `check_chain` visits. The
    arguments are those of `check_chain`.
    """
    dtype = memory_precision(trial, estimator)

    def judge(measured: Measurement) -> tuple[Verdict, float, str]:
        error, exact = float(measured.gradient_error), float(measured.gradient)
        units = _units(error, exact + float(measured.gradient_terms), dtype)
        evidence = f"‖gradient - exact‖ = {error:.3g}, ‖exact‖ = {exact:.3g}."
        if not math.isfinite(units):
            return "unverifiable", math.nan, f"not finite. {evidence}"
        return "holds" if units <= ROUNDING[dtype] else "biased", units, evidence

    law = "the gradient uses the pair it arrived with"
    return _follow(law, judge, trial, estimator, seed, projections, batched)


def check_outcome(
    trial: Trial,
    estimator: Estimator,
    *,
    seed: int = 0,
    projections: int | None = None,
    batched: bool = True,
) -> Finding:
    """Check that an estimator passes on the next state and the loss that the model gives.

    Arguments as for `check_chain`.
    """
    dtype = memory_precision(trial, estimator)

    def judge(measured: Measurement) -> tuple[Verdict, float, str]:
        units = float(measured.outcome_error) / UNIT[dtype]
        evidence = f"they are off by {float(measured.outcome_error):.3g}, relative to the model's."
        if not math.isfinite(units):
            return "broken", math.inf, f"not finite. {evidence}"
        return "holds" if units <= ROUNDING[dtype] else "broken", units, evidence

    law = "state and loss are passed on as they are"
    return _follow(law, judge, trial, estimator, seed, projections, batched)


def _follow(
    law: str,
    judge: Callable[[Measurement], tuple[Verdict, float, str]],
    trial: Trial,
    estimator: Any,
    seed: int,
    projections: int | None,
    batched: bool,
) -> Finding:
    """Judge every measurement along the path, and return the finding that matters most."""
    dtype = precision_of(trial.dynamics.backend, trial.state, trial.params[0])
    allowed, found = ROUNDING[memory_precision(trial, estimator)], list[tuple[Finding, Seen]]()
    for seen in _path(trial, estimator, dtype, seed, projections, batched):
        verdict, units, evidence = judge(seen.measured)
        evidence = f"At {seen.where}: {evidence}"
        found.append((Finding(law, verdict, units, allowed, evidence, trial.line), seen))
    settled = worst([finding for finding, _ in found])
    again = next(seen for finding, seen in found if finding is settled)
    if settled.verdict in REFUSALS and judge(again.again()) != judge(again.measured):
        evidence = f"Measured again it is something else: randomness inside. {settled.evidence}"
        return settled._replace(verdict="unverifiable", evidence=evidence)
    return settled


@kept(64)
def _path(
    trial: Trial, estimator: Any, dtype: str, seed: int, projections: int | None, batched: bool
) -> list[Seen]:
    """Follow one path of signs, and measure each step at its carry and at random ones.

    Kept for the next check: several look at the same measurements.
    """
    lab, found = apparatus(trial.dynamics, estimator, batched=batched), list[Seen]()
    backend, carry, state = lab.backend, trial.carry_of(estimator), trial.state
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        number = seed * 1000 + step
        if projections is None:
            signs, probes = lab.designs(state, number), basis(backend, state)
        else:
            signs = lab.some_designs(state, number)
            probes = gaussian(backend, state, seed, step, count=projections)
        measure = partial(lab.measure, params, carry, state, item, signs, probes)
        path = measure()
        found.append(Seen(f"step {step} of the path", path._replace(carry=None), measure))
        for index, scale in enumerate(SCALES[dtype]):
            at = at_scale(lab, carry, scale, number, index)
            measure = partial(lab.measure, params, at, state, item, signs, probes)
            where = f"step {step}, scale {scale:g}"
            found.append(Seen(where, measure()._replace(carry=None), measure))
        carry, state = lab.after(path, 7 * step + seed), path.next_state
    return found


def at_scale(lab: Apparatus, carry: Any, scale: float, *seed: int) -> Any:
    """Replace the pair by a random one, its tangent of the given scale; joint pairs, balanced."""
    tangent, cotangent = gaussian(lab.backend, (carry.tangent, carry.cotangent), *seed)
    tangent = lab.backend.combine((scale, tangent))
    if lab.joint:
        tangent, cotangent = balanced(lab.backend, tangent, cotangent, lab.rank)
    return carry._replace(tangent=tangent, cotangent=cotangent)


def _units(error: float, weight: float, dtype: str) -> float:
    """Count an error in units of roundoff of what was added up."""
    if weight:
        return error / (UNIT[dtype] * weight)
    return math.inf if error else 0.0


def check_sign_equivariance(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Check that flipping pair and signs flips the new pair and leaves the gradient, bit for bit.

    A normaliser that looks at the sign of ν fails here. That makes it another algorithm, and a
    biased one unless it is lucky.
    """
    law = "flipped signs flip the pair"
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    carry, state = trial.carry_of(estimator), trial.state

    def minus(tree: Any) -> Any:
        return backend.combine((-1.0, tree))

    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        signs = lab.one_design(state, seed * 1000 + step)
        flipped = carry._replace(tangent=minus(carry.tangent), cotangent=minus(carry.cotangent))
        one, after, first = lab.step(params, carry, state, item, signs)
        two, _, second = lab.step(params, flipped, state, item, minus(signs))
        for name, got, expected in (
            ("tangent", two.tangent, minus(one.tangent)),
            ("cotangent", two.cotangent, minus(one.cotangent)),
            ("gradient", second.gradient, first.gradient),
        ):
            gap = length_of_sum(backend, (1.0, got), (-1.0, expected))
            if gap != 0.0:
                again = lab.step(params, carry, state, item, signs)
                same = math.isfinite(gap) and relative_gap(backend, again[0], one) == 0.0
                verdict: Verdict = "not Algorithm 1" if same else "unverifiable"
                evidence = f"step {step}: the {name} differs by {gap:.3g} where it must be equal."
                evidence += "" if same else " (Not finite, or two equal calls differ too.)"
                return Finding(law, verdict, gap, 0.0, evidence, trial.line)
        carry, state = one, after
    return Finding(law, "holds", 0.0, 0.0, "Bit for bit.", trial.line)


def check_determinism(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Check that a step is a function of its arguments: twice the same call, the same bits.

    Returns:
        *unverifiable* if it is not: whatever averages are then taken, they are not over ν alone.
    """
    law = "a step is a function of its arguments"
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    carry = trial.carry_of(estimator)
    if hasattr(carry, "tangent") and hasattr(carry, "cotangent"):
        carry = at_scale(lab, carry, 1.0, seed)
    arguments = trial.params[0], carry, trial.state, trial.items[0]
    signs = lab.one_design(trial.state, seed)
    one, two = (backend.to_host(lab.step(*arguments, signs)) for _ in range(2))
    leaves = zip(backend.named_leaves(one), backend.named_leaves(two), strict=True)
    for (name, a), (_, b) in leaves:
        if not np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True):
            gap = largest([float(np.max(np.abs(np.asarray(a) - np.asarray(b))))])
            evidence = (
                f"Two equal calls differ at '{name}' by {gap:.3g}: there is randomness inside, "
                "such as dropout, or state kept between calls."
            )
            return Finding(law, "unverifiable", gap, 0.0, evidence, trial.line)
    return Finding(law, "holds", 0.0, 0.0, "Bit for bit.", trial.line)
