"""The laws of `Dynamics`, and the one that ties RTRL to backpropagation through time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.estimators import RTRL, bptt
from uoro_conformance.finding import Finding, largest


def check_adjointness(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
    tolerance: float = 1e-12,
) -> Finding:
    """Compare ``<u, J v>`` with ``<Jᵀu, v>`` for random u and v, state and loss together.

    Returns:
        A finding whose gap is relative to ``‖u‖ ‖J v‖``.
    """
    backend = dynamics.backend
    key = backend.key(seed)
    tangent = backend.random(backend.fold(key, 0), state, "gaussian")
    cotangent = backend.random(backend.fold(key, 1), state, "gaussian")
    pushed, rate = dynamics.jvp(params, state, inputs, tangent)
    _, pullback = dynamics.vjp(params, state, inputs)
    _, pulled = pullback(cotangent, 0.7)
    left = float(backend.inner(cotangent, pushed)) + 0.7 * float(rate)
    right = float(backend.inner(pulled, tangent))
    scale = float(backend.norm(cotangent)) * float(backend.norm(pushed)) + abs(0.7 * float(rate))
    gap = abs(left - right) / scale if scale else abs(left - right)
    return Finding(
        law="jvp and vjp are adjoint",
        verdict="holds" if gap <= tolerance else "broken",
        gap=gap,
        allowed=tolerance,
        evidence=f"<u, Jv> = {left!r}, <Jᵀu, v> = {right!r}, backend {backend.name}.",
    )


def check_outcomes_agree(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any, *, tolerance: float
) -> Finding:
    """Compare the outcomes of `forward` and `vjp`."""
    backend = dynamics.backend
    plain, (taped, _) = (
        dynamics.forward(params, state, inputs),
        dynamics.vjp(params, state, inputs),
    )
    gap = largest(
        (
            _distance(backend, plain.next_state, taped.next_state),
            abs(float(plain.loss) - float(taped.loss)),
        )
    )
    return Finding(
        law="forward and vjp give one outcome",
        verdict="holds" if gap <= tolerance else "broken",
        gap=gap,
        allowed=tolerance,
        evidence=f"losses {float(plain.loss)!r} and {float(taped.loss)!r}, backend {backend.name}.",
    )


def check_rtrl_sums_to_bptt(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    items: Sequence[Any],
    *,
    tolerance: float = 1e-10,
) -> Finding:
    """Compare RTRL's gradients, summed over time, with the gradient of full BPTT.

    Args:
        dynamics: The model.
        params: Held fixed.
        state: The state before the first step.
        items: The stream, one item a step.
        tolerance: The relative error that counts as rounding.
    """
    backend = dynamics.backend
    whole = backend.compile(partial(bptt, dynamics))(params, state, backend.collect(list(items)))[1]
    estimator = RTRL()
    step = backend.compile(partial(estimator.step, dynamics))
    memory, total = estimator.init(dynamics, params, state), backend.zeros(params)
    for item in items:
        memory, state, estimate = step(params, memory, state, item, None)
        total = backend.combine((1.0, total), (1.0, estimate.gradient))
    size = float(backend.norm(whole.gradient))
    gap = _distance(backend, total, whole.gradient) / (size if size else 1.0)
    return Finding(
        law="RTRL summed over time is BPTT",
        verdict="holds" if gap <= tolerance else "broken",
        gap=gap,
        allowed=tolerance,
        evidence=f"{len(items)} steps, gradient of norm {size:.6g}, backend {backend.name}.",
    )


def _distance(backend: Backend, x: Any, y: Any) -> float:
    return float(backend.norm(backend.combine((1.0, x), (-1.0, y))))
