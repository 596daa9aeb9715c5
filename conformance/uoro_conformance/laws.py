"""The laws of `Dynamics`, and the one that ties RTRL to backpropagation through time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
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
    length_of_sum,
    precision_of,
    relative_gap,
)

ADJOINT = 1e3
"""How many units of roundoff, relative to ‖u‖ ‖J v‖, an adjoint gap may have."""


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


def check_linearity(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Check that jvp and pullback of ``2a - 3b`` are those of a and b, combined alike.

    A zero cotangent and ``None`` must also give the same, of params and of state. Gaps are relative
    to what was added up, which may all but cancel.
    """
    backend, dtype = dynamics.backend, precision_of(dynamics.backend, state, params)
    a, b = gaussian(backend, state, seed, 2), gaussian(backend, state, seed, 3)
    mixed = backend.combine((2.0, a), (-3.0, b))
    push = partial(dynamics.jvp, params, state, inputs)
    outcome, pullback = dynamics.vjp(params, state, inputs)
    weights = cotangent_for(backend, outcome.output)
    half, less, none = (backend.combine((by, weights)) for by in (0.5, -0.5, 0.0))
    (of_a, rate_a), (of_b, rate_b), (of_mixed, rate) = push(a), push(b), push(mixed)
    steepest = length(backend, pullback(None, weights)[1])
    terms = steepest * (2 * length(backend, a) + 3 * length(backend, b))
    along = [float(backend.inner(weights, tangent)) for tangent in (rate, rate_a, rate_b)]
    pulls = zip(pullback(a, half), pullback(b, half), pullback(mixed, less), strict=True)
    gaps = {
        "jvp": _nonlinearity(backend, of_a, of_b, of_mixed),
        "jvp of the output": abs(along[0] - 2 * along[1] + 3 * along[2]) / (terms or 1.0),
        "pullback": largest(_nonlinearity(backend, *pulled) for pulled in pulls),
    }
    for name, one, two in (
        ("output", pullback(a, None), pullback(a, none)),
        ("state", pullback(None, weights), pullback(backend.zeros(state), weights)),
    ):
        parts = zip(one, two, strict=True)
        gaps[f"pullback without the {name}"] = largest(relative_gap(backend, *p) for p in parts)
    where = max(gaps, key=lambda name: gaps[name])
    return _law(
        "jvp and vjp are linear",
        gaps[where],
        ADJOINT * UNIT[dtype],
        f"Of {len(gaps)} identities the worst is that of the {where}, backend {backend.name}.",
    )


def _nonlinearity(backend: Backend, of_a: Any, of_b: Any, of_mixed: Any) -> float:
    """Return ``‖f(2a - 3b) - 2 f(a) + 3 f(b)‖``, relative to the sum of the terms."""
    gap = length_of_sum(backend, (1.0, of_mixed), (-2.0, of_a), (3.0, of_b))
    return gap / (2 * length(backend, of_a) + 3 * length(backend, of_b) or 1.0)


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
