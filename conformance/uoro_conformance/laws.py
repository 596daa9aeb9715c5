"""The laws of `Dynamics`, and the one that ties RTRL to backpropagation through time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.estimators import RTRL, Truncated
from uoro.unroll import unroll
from uoro_conformance.apparatus import compiled_step
from uoro_conformance.finding import UNIT, Finding, largest, precision_of, relative_gap

ADJOINT = 1e3
"""How many units of roundoff, relative to ‖u‖ ‖J v‖, an adjoint gap may have."""

STEP = {"float64": 5e-4, "float32": 1.5e-2}
TRUTH = {"float64": 1e-8, "float32": 1e-3}
"""Step of the fourth-order differences, and the relative error that counts as one. What they and
those of twice the step disagree on is put down to the differences."""


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
    """Compare ``<u, J v>`` with ``<Jᵀu, v>`` for random u and v, state and loss together.

    Returns:
        A finding whose gap is relative to ``‖u‖ ‖J v‖``.
    """
    backend = dynamics.backend
    key, dtype = backend.key(seed), precision_of(backend, state, params)
    tangent = backend.random(backend.fold(key, 0), state, "gaussian")
    cotangent = backend.random(backend.fold(key, 1), state, "gaussian")
    pushed, rate = dynamics.jvp(params, state, inputs, tangent)
    _, pullback = dynamics.vjp(params, state, inputs)
    _, pulled = pullback(cotangent, 0.7)
    left = float(backend.inner(cotangent, pushed)) + 0.7 * float(rate)
    right = float(backend.inner(pulled, tangent))
    scale = float(backend.norm(cotangent)) * float(backend.norm(pushed)) + abs(0.7 * float(rate))
    gap = abs(left - right) / scale if scale else abs(left - right)
    return _law(
        "jvp and vjp are adjoint",
        gap,
        ADJOINT * UNIT[dtype],
        f"<u, Jv> = {left!r}, <Jᵀu, v> = {right!r}, backend {backend.name}.",
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

    A zero cotangent and ``None`` must also give the same.
    """
    backend = dynamics.backend
    key, dtype = backend.key(seed), precision_of(backend, state, params)
    a, b = (backend.random(backend.fold(key, i), state, "gaussian") for i in (2, 3))
    mixed = backend.combine((2.0, a), (-3.0, b))
    push = partial(dynamics.jvp, params, state, inputs)
    pushed = backend.combine((2.0, push(a)[0]), (-3.0, push(b)[0]))
    _, pullback = dynamics.vjp(params, state, inputs)
    pulled = backend.combine((2.0, pullback(a, 0.5)[0]), (-3.0, pullback(b, 0.5)[0]))
    gaps = (
        relative_gap(backend, push(mixed)[0], pushed),
        relative_gap(backend, pullback(mixed, -0.5)[0], pulled),
        relative_gap(backend, pullback(a, 0.0)[0], pullback(a, None)[0]),
        relative_gap(backend, pullback(backend.zeros(state), 1.0)[0], pullback(None, 1.0)[0]),
    )
    return _law(
        "jvp and vjp are linear",
        largest(gaps),
        ADJOINT * UNIT[dtype],
        f"relative gaps of jvp, pullback, zero loss, zero state: "
        f"{', '.join(f'{gap:.2g}' for gap in gaps)}, backend {backend.name}.",
    )


def check_truth(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Compare the vjp with fourth-order differences of `forward`, each leaf by itself.

    An adjoint pair can be wrong together; only this sees it: a derivative that is stopped, scaled,
    or taken at another point.

    Returns:
        A finding whose gap is relative to the derivative and to what differences can resolve.
    """
    backend = dynamics.backend
    key, dtype = backend.key(seed), precision_of(backend, state, params)
    cotangent = backend.random(backend.fold(key, 4), state, "gaussian")
    weight, h = 0.7, STEP[dtype]

    def value(params: Any, state: Any) -> float:
        outcome = dynamics.forward(params, state, inputs)
        return float(backend.inner(cotangent, outcome.next_state)) + weight * float(outcome.loss)

    outcome, pullback = dynamics.vjp(params, state, inputs)
    size = float(backend.norm(cotangent)) * float(backend.norm(outcome.next_state))
    noise = 16 * UNIT[dtype] * (size + weight * abs(float(outcome.loss))) / h
    pulled: dict[str, Any] = dict(
        zip(("params", "state"), pullback(cotangent, weight), strict=True)
    )
    point: dict[str, Any] = {"params": params, "state": state}
    gaps, values = dict[str, float](), dict[str, str]()
    for part, tree in point.items():
        full = backend.random(backend.fold(key, 5), tree, "gaussian")
        for number, (name, _) in enumerate(backend.named_leaves(tree)):
            direction = _direction(backend, pulled[part], full, number)

            def along(distance: float, part: str = part, direction: Any = direction) -> float:
                moved = backend.combine((1.0, point[part]), (distance, direction))
                return value(**{**point, part: moved})

            near, mid, far = (along(k * h) - along(-k * h) for k in (1, 2, 4))
            measured, coarser = (8 * near - mid) / (12 * h), (8 * mid - far) / (24 * h)
            claimed = float(backend.inner(pulled[part], direction))
            unsure = noise + abs(measured - coarser) / 4
            scale = abs(measured) + abs(claimed) + unsure / TRUTH[dtype]
            leaf = f"{part}/{name}".rstrip("/")
            gaps[leaf] = abs(measured - claimed) / (scale or 1.0)
            off = f"{abs(claimed / measured - 1):.2%}" if measured else "more than can be said"
            values[leaf] = f"differences give {measured!r}, vjp gives {claimed!r}, off by {off}"
    where = max(gaps, key=lambda name: largest([gaps[name]]))
    return _law(
        "derivatives are those of forward",
        largest(gaps.values()),
        TRUTH[dtype],
        f"Worst at leaf '{where}', of {len(gaps)}: {values[where]}, backend {backend.name}.",
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
    gaps = (
        relative_gap(backend, plain.next_state, taped.next_state),
        abs(float(plain.loss) - float(taped.loss)) / (abs(float(taped.loss)) or 1.0),
    )
    return _law(
        "forward and vjp give one outcome",
        largest(gaps),
        10 * UNIT[dtype],
        f"losses {float(plain.loss)!r} and {float(taped.loss)!r}, backend {backend.name}.",
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
    tangent = backend.random(backend.key(seed), state, "gaussian")
    given = {"params": params, "state": state, "inputs": inputs, "tangent": tangent}
    before = {name: _copy(backend, tree) for name, tree in given.items()}

    def everything() -> Any:
        outcome = dynamics.forward(params, state, inputs)
        pushed = dynamics.jvp(params, state, inputs, tangent)
        taped, pullback = dynamics.vjp(params, state, inputs)
        return (
            (outcome.next_state, outcome.loss),
            pushed,
            (taped.next_state, taped.loss),
            pullback(tangent, 1.0),
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
    backwards = compiled_step(unroll(dynamics, len(items)), Truncated())
    _, _, whole = backwards(params, (), state, backend.collect(list(items)), None)
    estimator = RTRL()
    step = compiled_step(dynamics, estimator)
    memory, total = estimator.init(dynamics, params, state), backend.zeros(params)
    for item in items:
        memory, state, estimate = step(params, memory, state, item, None)
        total = backend.combine((1.0, total), (1.0, estimate.gradient))
    return _law(
        "RTRL summed over time is BPTT",
        largest([relative_gap(backend, total, whole.gradient)]),
        tolerance,
        f"{len(items)} steps, gradient of norm {float(backend.norm(whole.gradient)):.6g}, "
        f"backend {backend.name}.",
    )


def _direction(backend: Backend, gradient: Any, random: Any, number: int) -> Any:
    """Make a direction in one leaf, of two parts of length one.

    One goes along the claimed gradient and shows a wrong size; the other is random and shows what
    the gradient leaves out.
    """
    parts = [_only(backend, tree, number) for tree in (gradient, random)]
    return backend.combine(*((1.0 / (float(backend.norm(part)) or 1.0), part) for part in parts))


def _only(backend: Backend, tree: Any, number: int) -> Any:
    """Keep one leaf of a tree and set the others to zero."""
    numbers = iter(range(len(backend.named_leaves(tree))))
    return backend.map(lambda leaf: leaf * (1.0 if next(numbers) == number else 0.0), tree)


def _copy(backend: Backend, tree: Any) -> list[Any]:
    return [np.array(leaf) for _, leaf in backend.named_leaves(backend.to_host(tree))]


def _difference(x: list[Any], y: list[Any]) -> float:
    """Give the largest difference of two lists of arrays; 0 only if they are the same bits."""
    gaps = []
    for a, b in zip(x, y, strict=True):
        if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            gaps.append(float(np.max(np.abs(np.asarray(a - b, float)))))
    return largest(gaps)
