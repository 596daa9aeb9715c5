"""The laws of `Dynamics`, and the one that ties RTRL to backpropagation through time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.derivatives.probing import cotangent_for
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics
from uoro.estimators import RTRL, Truncated
from uoro_conformance.apparatus import compiled_step
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import (
    UNIT,
    Finding,
    largest,
    length,
    precision_of,
    relative_gap,
)
from uoro_conformance.linearity import ADJOINT


def _law(law: str, gap: float, allowed: float, evidence: str) -> Finding:
    return Finding(law, "holds" if gap <= allowed else "broken", gap, allowed, evidence)


def check_adjointness(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Compare ``<u, J v>`` with ``<Jᵀu, v>`` for random u and v, of next state and output.

    Returns:
        A finding whose gap is the larger of the two, relative to ``‖u‖ ‖J v‖ + ‖Jᵀu‖ ‖v‖``, as
        one of these may be small by chance, and of the output to ``‖(∂o/∂s)ᵀ ō‖ ‖v‖``, with a
        cotangent ō that is 1 for a loss.
    """
    backend = dynamics.backend
    dtype = precision_of(backend, state, params)
    tangent, cotangent = gaussian(backend, state, seed, 0), gaussian(backend, state, seed, 1)
    pushed, output_tangent = dynamics.jvp(params, state, inputs, tangent)
    outcome, pullback = dynamics.vjp(params, state, inputs)
    _, pulled = pullback(cotangent, None)
    weights = cotangent_for(backend, outcome.output)
    _, state_gradient = pullback(None, weights)
    sides = {
        "next state": (
            float(backend.inner(cotangent, pushed)),
            float(backend.inner(pulled, tangent)),
            length(backend, cotangent) * length(backend, pushed)
            + length(backend, pulled) * length(backend, tangent),
        ),
        "output": (
            float(backend.inner(weights, output_tangent)),
            float(backend.inner(state_gradient, tangent)),
            length(backend, state_gradient) * length(backend, tangent),
        ),
    }
    gaps = {
        name: largest([abs(left - right) / (scale or 1.0)])
        for name, (left, right, scale) in sides.items()
    }
    where = max(gaps, key=lambda name: gaps[name])
    left, right, _ = sides[where]
    return _law(
        "jvp and vjp are adjoint",
        gaps[where],
        ADJOINT * UNIT[dtype],
        f"Of the {where}: <u, Jv> = {left!r}, <Jᵀu, v> = {right!r}, backend {backend.name}.",
    )


def check_outcomes_agree(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Compare the outcomes of `forward` and `vjp`."""
    backend = dynamics.backend
    dtype = precision_of(backend, state, params)
    plain = dynamics.forward(params, state, inputs)
    taped, _ = dynamics.vjp(params, state, inputs)
    sizes = [length(backend, each.output) for each in (plain, taped)]
    law = "forward and vjp give one outcome"
    if not all(map(math.isfinite, sizes)):
        evidence = f"Outputs of norms {sizes[0]!r} and {sizes[1]!r} are not finite."
        return Finding(law, "unverifiable", math.nan, math.nan, evidence)
    gaps = (
        relative_gap(backend, plain.next_state, taped.next_state),
        relative_gap(backend, plain.output, taped.output),
    )
    return _law(
        law,
        largest(gaps),
        10 * UNIT[dtype],
        f"outputs of norms {sizes[0]!r} and {sizes[1]!r}, backend {backend.name}.",
    )


def check_purity(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any, *, seed: int = 0
) -> Finding:
    """Check that no call changes an argument, and that equal calls give equal results, bit for bit.

    Returns:
        *broken* if an argument changed; *unverifiable* if only the results differ, which is what
        randomness or hidden state inside the model does.
    """
    backend = dynamics.backend
    law = "calls change nothing and repeat themselves"
    tangent = gaussian(backend, state, seed)
    given = {"params": params, "state": state, "inputs": inputs, "tangent": tangent}
    before = {name: _copy(backend, tree) for name, tree in given.items()}

    def everything() -> Any:
        outcome = dynamics.forward(params, state, inputs)
        pushed = dynamics.jvp(params, state, inputs, tangent)
        taped, pullback = dynamics.vjp(params, state, inputs)
        return (
            (outcome.next_state, outcome.output),
            pushed,
            (taped.next_state, taped.output),
            pullback(tangent, cotangent_for(backend, taped.output)),
        )

    first = _copy(backend, everything())
    for name, tree in given.items():
        gap = _difference(before[name], _copy(backend, tree))
        if gap:
            return Finding(law, "broken", gap, 0.0, f"The {name} changed by {gap:.3g}.")
    gap = _difference(first, _copy(backend, everything()))
    if gap:
        return Finding(
            law,
            "unverifiable",
            gap,
            0.0,
            f"Two equal calls differ by {gap:.3g}: there is randomness inside the model, such as "
            "dropout, or state kept between calls.",
        )
    return Finding(law, "holds", 0.0, 0.0, "Bit for bit.")


def check_rtrl_sums_to_bptt(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    items: Sequence[Any],
    *,
    tolerance: float | None = None,
) -> Finding:
    """Compare RTRL's gradients, summed over time, with the gradient of full BPTT.

    Args:
        dynamics: The model.
        params: Parameters θ, constant.
        state: The state before the first step.
        items: The stream, one item a step.
        tolerance: The relative error that counts as rounding; 1e6 units of it if not given.
    """
    backend = dynamics.backend
    if tolerance is None:
        tolerance = 1e6 * UNIT[precision_of(backend, state, params)]
    backwards = compiled_step(unroll(dynamics, len(items)), Truncated())
    _, _, whole = backwards(params, (), state, backend.collect(list(items)), None)
    estimator = RTRL()
    step = compiled_step(dynamics, estimator)
    carry, total = estimator.init(dynamics, params, state), backend.zeros(params)
    for item in items:
        carry, state, estimate = step(params, carry, state, item, None)
        total = backend.combine((1.0, total), (1.0, estimate.gradient))
    return _law(
        "RTRL summed over time is BPTT",
        largest([relative_gap(backend, total, whole.gradient)]),
        tolerance,
        f"{len(items)} steps, gradient of norm {length(backend, whole.gradient):.6g}, "
        f"backend {backend.name}.",
    )


def _copy(backend: Backend, tree: Any) -> list[Any]:
    return [np.array(leaf) for _, leaf in backend.named_leaves(backend.to_host(tree))]


def _difference(x: list[Any], y: list[Any]) -> float:
    """Return the largest difference of two lists of arrays; 0 only if they are the same bits."""
    gaps = []
    for a, b in zip(x, y, strict=True):
        if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            gaps.append(float(np.max(np.abs(np.asarray(a - b, float)))))
    return largest(gaps)
