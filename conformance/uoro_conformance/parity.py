"""Parity: the numbers of Algorithm 1, computed with full Jacobians in NumPy."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uoro.algebra import basis, coordinates, entry, repeat, size
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.estimator import Estimator
from uoro.estimators.scaling import scaled
from uoro_conformance.apparatus import Apparatus, apparatus
from uoro_conformance.dense import SQUARED, gap_of_pairs, reduce_densely, resolve_identity
from uoro_conformance.designs import as_noise, draws_of
from uoro_conformance.finding import Finding
from uoro_conformance.memory import UNIT, memory_precision
from uoro_conformance.programs import kept
from uoro_conformance.systems import Trial


class Jacobians(NamedTuple):
    """∂F/∂θ and ∂F/∂s as matrices, ∂ℓ/∂θ and ∂ℓ/∂s as vectors."""

    by_params: Any
    by_state: Any
    loss_by_params: Any
    loss_by_state: Any


def check_parity(
    trial: Trial,
    estimator: Estimator,
    *,
    epsilon: float = 1e-7,
    tolerance: float | None = None,
    seed: int = 0,
) -> Finding:
    """Compare every number with Algorithm 1 of the paper, under the same signs.

    The reference computes with full Jacobians in NumPy, from pullbacks of the unit vectors. With
    rank k it is k independent copies, their gradients averaged (section 3.4). If the estimator has
    a ``scaling``, the factors themselves are taken from there.

    That of joint pairs reduces the whole sum by its singular values, at each carry that the
    estimator has come to. Compared are the gradient, the influence in all directions that rounding
    leaves known, and the variance added. Which pair is which, and the sign of a singular vector,
    is nobody's business.

    Returns:
        *not Algorithm 1* if they differ by more than ``tolerance`` relative, 1e7 units of rounding
        if not given; that says nothing about bias.
    """
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    if tolerance is None:
        tolerance = 1e7 * UNIT[memory_precision(trial, estimator)]
    law, rank = "the numbers are those of Algorithm 1", lab.rank
    if lab.joint:
        return _check_joint_parity(trial, lab, tolerance, seed)
    carry = trial.carry_of(estimator)
    state, worst_gap, evidence = trial.state, 0.0, ""
    tangents = matrix(backend, carry.tangent, rank)
    cotangents = matrix(backend, carry.cotangent, rank)
    dynamics: Any = trial.dynamics
    jacobians = _compiled_jacobians(dynamics)
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        signs = lab.one_design(state, seed * 1000 + step)
        at = Jacobians(*map(np.asarray, backend.to_host(jacobians(params, state, item))))
        factors = _factors(trial, estimator, params, state, item)
        carry, state, estimate = lab.step(params, carry, state, item, signs)
        through = (tangents @ at.loss_by_state) @ cotangents / rank
        rows = zip(tangents, cotangents, matrix(backend, signs, rank), strict=True)
        pairs = [_advance(at, *row, factors, epsilon) for row in rows]
        tangents, cotangents = (np.stack(part) for part in zip(*pairs, strict=True))
        for name, got, expected in (
            ("tangent", matrix(backend, carry.tangent, rank), tangents),
            ("cotangent", matrix(backend, carry.cotangent, rank), cotangents),
            ("gradient", matrix(backend, estimate.gradient, 1)[0], through + at.loss_by_params),
        ):
            gap = float(np.linalg.norm(got - expected) / (np.linalg.norm(expected) or 1.0))
            if gap >= worst_gap or not math.isfinite(gap):
                worst_gap, evidence = gap, f"step {step}, {name}: relative gap {gap:.3g}."
            if not gap <= tolerance:
                return Finding(law, "not Algorithm 1", gap, tolerance, evidence, trial.line)
    return Finding(law, "holds", worst_gap, tolerance, evidence, trial.line)


def _check_joint_parity(trial: Trial, lab: Apparatus, tolerance: float, seed: int) -> Finding:
    law, backend, rank = "the numbers are those of a dense reduction", lab.backend, lab.rank
    carry, state = trial.carry_of(lab.estimator), trial.state
    worst_gap, worst_allowed, evidence = 0.0, tolerance, ""
    squared = SQUARED * UNIT[memory_precision(trial, lab.estimator)] ** 0.5
    dynamics: Any = trial.dynamics
    jacobians, norm = _compiled_jacobians(dynamics), np.linalg.norm
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        drawn = lab.one_design(state, seed * 1000 + step)
        signs = matrix(backend, drawn, draws_of(lab.estimator))
        at = Jacobians(*map(np.asarray, backend.to_host(jacobians(params, state, item))))
        tangents, cotangents = (
            matrix(backend, part, rank) for part in (carry.tangent, carry.cotangent)
        )
        factors = _factors(trial, lab.estimator, params, state, item)
        projected = np.outer(signs[0], signs[0]) * resolve_identity(signs.shape[1], rank)
        terms = (
            (at.by_state @ tangents.T, cotangents),
            (factors[:, None] * projected, at.by_params / factors[:, None]),
        )
        expected = (at.loss_by_state @ tangents.T) @ cotangents + at.loss_by_params
        largest = norm(at.loss_by_state) * norm(tangents) * norm(cotangents)
        largest += norm(at.loss_by_params)
        carry, state, estimate = lab.step(params, carry, state, item, drawn)
        gradient = matrix(backend, estimate.gradient, 1)[0]
        pairs = [matrix(backend, part, rank) for part in (carry.tangent, carry.cotangent)]
        reduced = reduce_densely(sum(left @ right for left, right in terms), rank)
        scale = sum(float(norm(left) * norm(right)) for left, right in terms) or 1.0
        for name, gap, allowed in (
            ("gradient", float(norm(gradient - expected) / (largest or 1.0)), tolerance),
            ("influence", gap_of_pairs(reduced, pairs[0], pairs[1], signs[-1]) / scale, squared),
            ("variance", abs(float(carry.added) - reduced.added) / scale**2, squared),
        ):
            if gap / allowed >= worst_gap / worst_allowed or not math.isfinite(gap):
                worst_gap, worst_allowed = gap, allowed
                evidence = f"step {step}, {name}: relative gap {gap:.3g}."
            if not gap <= allowed:
                return Finding(law, "not Algorithm 1", gap, allowed, evidence, trial.line)
    return Finding(law, "holds", worst_gap, worst_allowed, evidence, trial.line)


def _factors(trial: Trial, estimator: Any, params: Any, state: Any, item: Any) -> Any:
    """Compute the factors of ν, a vector with one per coordinate of the state."""
    backend, scaling = trial.dynamics.backend, getattr(estimator, "scaling", None)
    ones = entry(backend, as_noise(backend, state, np.ones((1, size(backend, state))), 1), 0)
    times, _ = scaled(scaling, trial.dynamics, params, state, item, ones)
    return matrix(backend, times, 1)[0]


def _advance(
    at: Jacobians, tangent: Any, cotangent: Any, nu: Any, factors: Any, epsilon: float
) -> Any:
    """Compute steps 3 to 5 of Algorithm 1 for one pair."""
    norm = np.linalg.norm
    pushed, pulled = at.by_state @ tangent, (nu / factors) @ at.by_params
    nu = nu * factors
    rho0 = np.sqrt(norm(cotangent) / (norm(pushed) + epsilon)) + epsilon
    rho1 = np.sqrt(norm(pulled) / (norm(nu) + epsilon)) + epsilon
    return rho0 * pushed + rho1 * nu, cotangent / rho0 + pulled / rho1


@kept(64)
def _compiled_jacobians(dynamics: Any) -> Any:
    return dynamics.backend.compile(partial(_jacobians, dynamics))


def _jacobians(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, item: Any) -> Jacobians:
    backend = dynamics.backend
    _, pullback = dynamics.vjp(params, state, item)
    fresh_influence, jacobian = backend.vmap(lambda row: pullback(row, None))(basis(backend, state))
    immediate, state_gradient = (
        coordinates(backend, repeat(backend, tree, 1))[0] for tree in pullback(None, 1.0)
    )
    return Jacobians(
        coordinates(backend, fresh_influence),
        coordinates(backend, jacobian),
        immediate,
        state_gradient,
    )


def matrix(backend: Backend, tree: Any, rows: int) -> Any:
    """Convert a tree, or a stack of ``rows`` trees, to a NumPy matrix, one row per tree."""
    flat = list[Any]()
    for _, leaf in backend.named_leaves(backend.to_host(tree)):
        row: Any = np.asarray(leaf).reshape(rows, -1)
        flat += [row.real, row.imag] if np.iscomplexobj(row) else [row]
    return np.concatenate(flat, axis=1).astype(np.float64)
