"""Unbiasedness without statistics, one step at a time, for any pair-carrying estimator.

Conditional on the memory, one step of UORO adds up to ``a ⊗ b + ν νᵀ K`` and terms odd in ν, with
a = ∂F/∂s · s̃, b = θ̃, K = ∂F/∂θ. So any set of ν closed under negation with mean(ν νᵀ) = I gives
the conditional mean exactly. That it is right at every memory, with fresh independent ν and a zero
start, makes the estimator unbiased for all times.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from uoro.algebra import repeat
from uoro.estimator import Estimator
from uoro_conformance.apparatus import Apparatus, Reading, Truth, apparatus
from uoro_conformance.finding import UNIT, Finding, Verdict, worst
from uoro_conformance.systems import Trial

ROUNDING = {"float64": 1e4, "float32": 1e3}
"""How many units of roundoff, relative to what was added up, count as rounding."""

NOISIEST = 1e3
"""Where the average size of a term exceeds the true mean by more, nothing follows."""

SCALES = {"float64": (1e-8, 1e-3, 1.0, 1e4), "float32": (1e-3, 1.0)}
"""Scales of the random memories that the chain also starts from."""


def check_chain(
    trial: Trial, estimator: Estimator, *, dtype: str = "float64", seed: int = 0
) -> Finding:
    """Check that each step's conditional mean is RTRL's, at every memory on the way.

    The memories are those of one path of signs from the zero start, and random ones at scales
    from 1e-8 to 1e4.

    Args:
        trial: What to run on.
        estimator: What to check; its memory has ``tangent`` and ``cotangent``.
        dtype: Whose rounding to allow for.
        seed: Of the path and the random memories.

    Returns:
        *biased* with the relative error of the mean; *unverifiable* where the terms are so large
        that rounding covers everything, or not finite.
    """
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    memory = estimator.init(trial.dynamics, trial.params[0], trial.state, inputs=trial.items[0])
    if float(backend.norm(memory.tangent)) * float(backend.norm(memory.cotangent)) > 0:
        return _chain(trial, "biased", math.inf, dtype, "The initial memory is not zero.")
    state, found = trial.state, list[Finding]()
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        at = params, state, item, lab.designs(state, seed * 1000 + step)
        finding, path = _measure(trial, lab, memory, at, f"step {step} of the path", dtype)
        found.append(finding)
        for scale in SCALES[dtype]:
            start = _at_scale(lab, memory, scale, 100 * seed + step)
            finding, _ = _measure(trial, lab, start, at, f"step {step}, scale {scale:g}", dtype)
            found.append(finding)
        if worst(found).verdict == "biased":
            break
        memory, state = lab.after(path, 7 * step + seed), path.next_state
    return worst(found)


def _at_scale(lab: Apparatus, memory: Any, scale: float, seed: int) -> Any:
    """Replace the pair by a random one, its tangent of the given scale."""
    backend = lab.backend
    key = backend.fold(backend.key(seed), 0)
    draw = backend.random(key, (memory.tangent, memory.cotangent), "gaussian")
    return memory._replace(tangent=backend.combine((scale, draw[0])), cotangent=draw[1])


def _measure(
    trial: Trial, lab: Apparatus, memory: Any, at: Any, where: str, dtype: str
) -> tuple[Finding, Reading]:
    """Compare the mean over the designs with the truth, in units of roundoff."""
    params, state, item, noise = at
    reading = lab.over_designs(params, memory, state, item, noise)
    truth = lab.truth(params, memory, state, item)
    return _compare(trial, lab, reading, truth, where, dtype), reading


def _compare(
    trial: Trial, lab: Apparatus, reading: Reading, truth: Truth, where: str, dtype: str
) -> Finding:
    norm = lab.backend.norm
    error = float(norm(lab.backend.combine((1.0, reading.outer), (-1.0, truth.outer))))
    weight, scale = float(reading.weight), float(truth.scale)
    evidence = (
        f"At {where}: ‖mean - exact‖ = {error:.3g}, ‖exact‖ = {float(norm(truth.outer)):.3g}, "
        f"terms of size {weight:.3g}."
    )
    units = _units(error, weight, dtype)
    if not (math.isfinite(error) and math.isfinite(weight)):
        return _chain(trial, "unverifiable", math.nan, dtype, f"Not finite. {evidence}")
    if units > ROUNDING[dtype]:
        return _chain(trial, "biased", units, dtype, evidence)
    if weight > NOISIEST * scale:
        return _chain(trial, "unverifiable", units, dtype, f"Noise drowns all. {evidence}")
    return _chain(trial, "holds", units, dtype, evidence)


def _units(error: float, weight: float, dtype: str) -> float:
    """Count an error in units of roundoff of what was added up."""
    if weight:
        return error / (UNIT[dtype] * weight)
    return math.inf if error else 0.0


def _chain(trial: Trial, verdict: Verdict, gap: float, dtype: str, evidence: str) -> Finding:
    return Finding(
        "each step's mean is RTRL's", verdict, gap, ROUNDING[dtype], evidence, trial.line
    )


def check_gradient_path(
    trial: Trial, estimator: Estimator, *, dtype: str = "float64", seed: int = 0
) -> Finding:
    """Check that the gradient is ``∂ℓ/∂s · (influence of the old memory) + ∂ℓ/∂θ``, on a path.

    No averaging: under every design of signs, at every memory on one path.
    """
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    memory = estimator.init(trial.dynamics, trial.params[0], trial.state, inputs=trial.items[0])
    state, worst_units, evidence = trial.state, 0.0, ""
    verdict: Verdict = "holds"
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        noise = lab.designs(state, seed * 1000 + step)
        reading = lab.over_designs(params, memory, state, item, noise)
        truth = lab.truth(params, memory, state, item)
        count = int(backend.named_leaves(reading.gradients)[0][1].shape[0])
        wanted = repeat(backend, truth.gradient, count)
        error = float(backend.norm(backend.combine((1.0, reading.gradients), (-1.0, wanted))))
        tangents, cotangents = lab.pairs(memory)
        size_of_terms = float(backend.norm(wanted)) + math.sqrt(count) * float(
            backend.norm(tangents)
        ) * float(backend.norm(cotangents))
        units = _units(error, size_of_terms, dtype)
        if not units <= ROUNDING[dtype]:
            verdict = "biased" if math.isfinite(units) else "unverifiable"
        if units >= worst_units or verdict != "holds":
            worst_units = units
            evidence = (
                f"step {step}: ‖gradient - exact‖ = {error:.3g} over {count} designs, "
                f"‖exact‖ = {float(backend.norm(wanted)):.3g}."
            )
        if verdict != "holds":
            break
        memory, state = lab.after(reading, step), reading.next_state
    return Finding(
        "the gradient uses the pair it arrived with",
        verdict,
        worst_units,
        ROUNDING[dtype],
        evidence,
        trial.line,
    )


def check_sign_equivariance(
    trial: Trial, estimator: Estimator, *, dtype: str = "float64", seed: int = 0
) -> Finding:
    """Check that flipping pair and signs flips the new pair and leaves the gradient, bit for bit.

    A normaliser that looks at the sign of ν fails here.
    """
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    memory = estimator.init(trial.dynamics, trial.params[0], trial.state, inputs=trial.items[0])
    state = trial.state

    def minus(tree: Any) -> Any:
        return backend.combine((-1.0, tree))

    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        signs = lab.one_design(state, seed * 1000 + step)
        flipped = memory._replace(tangent=minus(memory.tangent), cotangent=minus(memory.cotangent))
        one, after, first = lab.step(params, memory, state, item, signs)
        two, _, second = lab.step(params, flipped, state, item, minus(signs))
        gaps = {
            "tangent": backend.combine((1.0, one.tangent), (1.0, two.tangent)),
            "cotangent": backend.combine((1.0, one.cotangent), (1.0, two.cotangent)),
            "gradient": backend.combine((1.0, first.gradient), (-1.0, second.gradient)),
        }
        for name, difference in gaps.items():
            gap = float(backend.norm(difference))
            if gap != 0.0:
                return Finding(
                    "flipped signs flip the pair",
                    "biased",
                    gap,
                    0.0,
                    f"step {step}: the {name} differs by {gap:.3g} where it must be equal.",
                    trial.line,
                )
        memory, state = one, after
    return Finding("flipped signs flip the pair", "holds", 0.0, 0.0, "Bit for bit.", trial.line)


def check_determinism(trial: Trial, estimator: Estimator) -> Finding:
    """Check that a step is a function of its arguments: twice the same call, the same bits.

    Returns:
        *unverifiable* if it is not: whatever averages are then taken, they are not over ν alone.
    """
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    memory = estimator.init(trial.dynamics, trial.params[0], trial.state, inputs=trial.items[0])
    signs = lab.one_design(trial.state, 0)
    one, two = (
        lab.step(trial.params[0], memory, trial.state, trial.items[0], signs) for _ in range(2)
    )
    for (name, a), (_, b) in zip(
        backend.named_leaves(backend.to_host(one)),
        backend.named_leaves(backend.to_host(two)),
        strict=True,
    ):
        if not np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True):
            gap = float(np.max(np.abs(np.asarray(a) - np.asarray(b))))
            return Finding(
                "a step is a function of its arguments",
                "unverifiable",
                gap,
                0.0,
                f"Two equal calls differ at '{name}' by {gap:.3g}: there is randomness inside, "
                "such as dropout, or state kept between calls.",
                trial.line,
            )
    return Finding(
        "a step is a function of its arguments", "holds", 0.0, 0.0, "Bit for bit.", trial.line
    )
