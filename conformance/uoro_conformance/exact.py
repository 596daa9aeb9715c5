"""Unbiasedness without statistics, one step at a time, for any pair-carrying estimator.

Conditional on the memory, one step of UORO adds up to ``a ⊗ b + ν νᵀ K`` and terms odd in ν, with
a = ∂F/∂s · s̃, b = θ̃, K = ∂F/∂θ. So any set of ν closed under negation with mean(ν νᵀ) = I gives
the conditional mean exactly. That it is right at every memory, with fresh independent ν and a zero
start, makes the estimator unbiased for all times.

A set with another mean(ν νᵀ) = M must give ``a ⊗ b + M K``, exactly as well. That is how a model
too large for balanced designs is checked, on random projections.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from uoro.estimator import Estimator
from uoro_conformance.apparatus import Apparatus, Measurement, apparatus
from uoro_conformance.finding import UNIT, Finding, Verdict, largest, precision_of, worst
from uoro_conformance.systems import Trial

ROUNDING = {"float64": 1e4, "float32": 1e3}
"""How many units of roundoff, relative to what was added up, count as rounding."""

NOISIEST = 1e3
"""Where the average size of a term exceeds the true mean by more, nothing follows."""

SCALES = {"float64": (1e-8, 1e-3, 1.0, 1e4), "float32": (1e-3, 1.0)}
"""Scales of the random memories that the chain also starts from."""


class Point(NamedTuple):
    """Where a step is measured: everything it starts from, and what it is seen by."""

    step: int
    params: Any
    memory: Any
    state: Any
    item: Any
    noise: Any
    probes: Any


def check_chain(
    trial: Trial,
    estimator: Estimator,
    *,
    seed: int = 0,
    projections: int | None = None,
    batched: bool = True,
) -> Finding:
    """Check that each step's conditional mean is RTRL's, at every memory on the way.

    The memories are those of one path of signs from the zero start, and random ones at scales
    from 1e-8 to 1e4.

    Args:
        trial: What to run on.
        estimator: What to check; its memory has ``tangent`` and ``cotangent``.
        seed: Of the path and the random memories.
        projections: If given, look at that many random projections of the state, under a few
            random sign designs, instead of at the whole influence under balanced ones. The
            identity is exact either way.
        batched: Whether the backend may map over the designs; otherwise Python loops.

    Returns:
        *biased* with the relative error of the mean; *unverifiable* where the terms are so large
        that rounding covers everything, or not finite.
    """
    law = "each step's mean is RTRL's"
    lab, backend = apparatus(trial.dynamics, estimator, batched=batched), trial.dynamics.backend
    dtype = precision_of(backend, trial.state, trial.params[0])
    start = trial.memory_of(estimator)
    if float(backend.norm(start.tangent)) * float(backend.norm(start.cotangent)) > 0:
        evidence = "The initial memory is not zero."
        return Finding(law, "biased", math.inf, ROUNDING[dtype], evidence, trial.line)
    found = list[Finding]()
    for at, measured in _path(trial, lab, seed, projections):
        seen = [(f"step {at.step} of the path", measured)]
        for scale in SCALES[dtype]:
            memory = _at_scale(lab, at.memory, scale, 100 * seed + at.step)
            seen.append(
                (f"step {at.step}, scale {scale:g}", lab.measure(at.params, memory, *at[3:]))
            )
        for where, measurement in seen:
            verdict, units, evidence = _judge(measurement, dtype)
            evidence = f"At {where}: {evidence}"
            found.append(Finding(law, verdict, units, ROUNDING[dtype], evidence, trial.line))
    return worst(found)


def check_gradient_path(
    trial: Trial,
    estimator: Estimator,
    *,
    seed: int = 0,
    projections: int | None = None,
    batched: bool = True,
) -> Finding:
    """Check that the gradient is ``∂ℓ/∂s · (influence of the old memory) + ∂ℓ/∂θ``, on a path.

    No averaging: under every design of signs, at every memory on one path. The arguments are
    those of `check_chain`.
    """
    lab, backend = apparatus(trial.dynamics, estimator, batched=batched), trial.dynamics.backend
    dtype = precision_of(backend, trial.state, trial.params[0])
    found = list[Finding]()
    for at, measured in _path(trial, lab, seed, projections):
        error, gradient = float(measured.gradient_error), float(measured.gradient)
        units = _units(error, gradient + float(measured.gradient_terms), dtype)
        verdict: Verdict = "holds" if units <= ROUNDING[dtype] else "biased"
        found.append(
            Finding(
                "the gradient uses the pair it arrived with",
                verdict if math.isfinite(units) else "unverifiable",
                units,
                ROUNDING[dtype],
                f"At step {at.step}: ‖gradient - exact‖ = {error:.3g}, ‖exact‖ = {gradient:.3g}.",
                trial.line,
            )
        )
    return worst(found)


def _path(
    trial: Trial, lab: Apparatus, seed: int, projections: int | None
) -> Iterator[tuple[Point, Measurement]]:
    """Follow one path of signs, measuring each step over all designs."""
    backend, memory, state = lab.backend, trial.memory_of(lab.estimator), trial.state
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        number = seed * 1000 + step
        if projections is None:
            noise, probes = lab.designs(state, number), backend.basis(state)
        else:
            key = backend.fold(backend.key(seed), step)
            noise = lab.some_designs(state, number)
            probes = backend.random(key, state, "gaussian", (projections,))
        at = Point(step, params, memory, state, item, noise, probes)
        measured = lab.measure(*at[1:])
        yield at, measured
        memory, state = lab.after(measured, 7 * step + seed), measured.next_state


def _at_scale(lab: Apparatus, memory: Any, scale: float, seed: int) -> Any:
    """Replace the pair by a random one, its tangent of the given scale."""
    backend = lab.backend
    key = backend.fold(backend.key(seed), 0)
    draw = backend.random(key, (memory.tangent, memory.cotangent), "gaussian")
    return memory._replace(tangent=backend.combine((scale, draw[0])), cotangent=draw[1])


def _judge(measured: Measurement, dtype: str) -> tuple[Verdict, float, str]:
    """Compare the mean over the designs with the truth, in units of roundoff."""
    error, weight = float(measured.error), float(measured.weight)
    exact, scale = float(measured.exact), float(measured.scale)
    evidence = f"‖mean - exact‖ = {error:.3g}, ‖exact‖ = {exact:.3g}, terms of size {weight:.3g}."
    units = _units(error, weight, dtype)
    if not (math.isfinite(error) and math.isfinite(weight)):
        return "unverifiable", math.nan, f"Not finite. {evidence}"
    if units > ROUNDING[dtype]:
        relative = error / exact if exact else math.inf
        return "biased", units, f"The mean is off by {relative:.2%}. {evidence}"
    if weight > NOISIEST * scale:
        return "unverifiable", units, f"Noise drowns all. {evidence}"
    return "holds", units, evidence


def _units(error: float, weight: float, dtype: str) -> float:
    """Count an error in units of roundoff of what was added up."""
    if weight:
        return error / (UNIT[dtype] * weight)
    return math.inf if error else 0.0


def check_sign_equivariance(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Check that flipping pair and signs flips the new pair and leaves the gradient, bit for bit.

    A normaliser that looks at the sign of ν fails here.
    """
    law = "flipped signs flip the pair"
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    memory, state = trial.memory_of(estimator), trial.state

    def minus(tree: Any) -> Any:
        return backend.combine((-1.0, tree))

    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        signs = lab.one_design(state, seed * 1000 + step)
        flipped = memory._replace(tangent=minus(memory.tangent), cotangent=minus(memory.cotangent))
        one, after, first = lab.step(params, memory, state, item, signs)
        two, _, second = lab.step(params, flipped, state, item, minus(signs))
        for name, got, wanted in (
            ("tangent", two.tangent, minus(one.tangent)),
            ("cotangent", two.cotangent, minus(one.cotangent)),
            ("gradient", second.gradient, first.gradient),
        ):
            gap = float(backend.norm(backend.combine((1.0, got), (-1.0, wanted))))
            if gap != 0.0:
                evidence = f"step {step}: the {name} differs by {gap:.3g} where it must be equal."
                return Finding(law, "biased", gap, 0.0, evidence, trial.line)
        memory, state = one, after
    return Finding(law, "holds", 0.0, 0.0, "Bit for bit.", trial.line)


def check_determinism(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Check that a step is a function of its arguments: twice the same call, the same bits.

    Returns:
        *unverifiable* if it is not: whatever averages are then taken, they are not over ν alone.
    """
    law = "a step is a function of its arguments"
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    arguments = trial.params[0], trial.memory_of(estimator), trial.state, trial.items[0]
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
