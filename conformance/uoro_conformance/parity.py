"""Parity: the numbers of Algorithm 1, computed with full Jacobians in NumPy."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from uoro.algebra import coordinates
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.estimator import Estimator
from uoro_conformance.apparatus import apparatus
from uoro_conformance.finding import Finding
from uoro_conformance.systems import Trial


def check_parity(
    trial: Trial, estimator: Estimator, *, epsilon: float = 1e-7, tolerance: float = 1e-9
) -> Finding:
    """Compare every number with Algorithm 1 of the paper, under the same signs.

    The reference computes with full Jacobians in NumPy, from pullbacks of the unit vectors.

    Returns:
        *not Algorithm 1* if they differ by more than ``tolerance`` relative; that says nothing
        about bias.
    """
    lab, backend = apparatus(trial.dynamics, estimator), trial.dynamics.backend
    if lab.rank > 1:
        return Finding(
            "the numbers are those of Algorithm 1",
            "not checked",
            math.nan,
            tolerance,
            "The algorithm is that of rank one.",
            trial.line,
        )
    memory = estimator.init(trial.dynamics, trial.params[0], trial.state, inputs=trial.items[0])
    state, worst_gap, evidence = trial.state, 0.0, ""
    tangent, cotangent = _vector(backend, memory.tangent), _vector(backend, memory.cotangent)
    jacobians = backend.compile(partial(_jacobians, trial.dynamics))
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        signs = lab.one_design(state, step)
        by_params, by_state, direct, sensitivity = map(
            np.asarray, backend.to_host(jacobians(params, state, item))
        )
        nu = _vector(backend, signs)
        memory, state, estimate = lab.step(params, memory, state, item, signs)
        gradient = (sensitivity @ tangent) * cotangent + direct
        pushed, pulled = by_state @ tangent, nu @ by_params
        norm = np.linalg.norm
        rho0 = np.sqrt(norm(cotangent) / (norm(pushed) + epsilon)) + epsilon
        rho1 = np.sqrt(norm(pulled) / (norm(nu) + epsilon)) + epsilon
        tangent, cotangent = rho0 * pushed + rho1 * nu, cotangent / rho0 + pulled / rho1
        for name, got, wanted in (
            ("tangent", memory.tangent, tangent),
            ("cotangent", memory.cotangent, cotangent),
            ("gradient", estimate.gradient, gradient),
        ):
            gap = float(norm(_vector(backend, got) - wanted) / (norm(wanted) or 1.0))
            if gap >= worst_gap or not math.isfinite(gap):
                worst_gap, evidence = gap, f"step {step}, {name}: relative gap {gap:.3g}."
            if not gap <= tolerance:
                return Finding(
                    "the numbers are those of Algorithm 1",
                    "not Algorithm 1",
                    gap,
                    tolerance,
                    evidence,
                    trial.line,
                )
    return Finding(
        "the numbers are those of Algorithm 1", "holds", worst_gap, tolerance, evidence, trial.line
    )


def _jacobians(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, item: Any) -> Any:
    """Give ∂F/∂θ, ∂F/∂s as matrices, and ∂ℓ/∂θ, ∂ℓ/∂s as vectors."""
    backend = dynamics.backend
    _, pullback = dynamics.vjp(params, state, item)
    immediate, jacobian = backend.vmap(lambda row: pullback(row, None))(backend.basis(state))
    direct, sensitivity = (
        coordinates(backend, backend.map(lambda leaf: leaf[None], tree))[0]
        for tree in pullback(None, 1.0)
    )
    return coordinates(backend, immediate), coordinates(backend, jacobian), direct, sensitivity


def _vector(backend: Backend, tree: Any) -> Any:
    leaves = [np.asarray(leaf) for _, leaf in backend.named_leaves(backend.to_host(tree))]
    return np.concatenate([leaf.reshape(-1) for leaf in leaves]).astype(np.float64)
