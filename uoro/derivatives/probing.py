"""The measurements of a model check at one point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from uoro.algebra import differentiable, entry, norm, shift
from uoro.arguments import is_loss
from uoro.backend import Backend
from uoro.dynamics import Dynamics, Moment, Outcome
from uoro.errors import DerivativeError

CALL = "backend.dynamics(transition)"
"""The call, as errors and warnings quote it."""

NUDGE = 0.5
"""Distance of the second state from the first, in standard deviations per coordinate, each leaf in
units of its scale."""

_TINY = 1e-30
"""Added to every denominator."""


class Scaled(Protocol):
    """The scales of the leaves of a state, before a step and after it."""

    @property
    def state(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def next_state(self) -> Sequence[float]: ...  # noqa: D102


class Probe(NamedTuple):
    """Random directions of one model check.

    Attributes:
        tangent: A tangent of the state.
        cotangent: A cotangent of the state.
        by_params: A direction of the params.
        by_state: A direction of the state.
        state: A second state, at a distance of `NUDGE` from the first.
    """

    tangent: Any
    cotangent: Any
    by_params: Any
    by_state: Any
    state: Any


def run_once(
    dynamics: Dynamics[Any, Any, Any], point: Moment, rehearse: Callable[..., Any]
) -> Outcome[Any] | None:
    """Run the model once, so that its own errors come first and in-place changes are seen.

    Returns:
        The outcome; ``None`` where the backend compiles.
    """
    backend = dynamics.backend
    if backend.compiled:
        rehearse(dynamics.forward, *point)
        return None
    before = bits(backend, (point.params, point.state))
    params, state = (
        backend.map(lambda leaf: leaf * 1, tree) for tree in (point.params, point.state)
    )
    outcome = dynamics.forward(params, state, point.inputs)
    if bits(backend, (params, state)) != before:
        raise DerivativeError(
            f"{CALL}: expected a pure function, got one that changes its params or its state in "
            "place, so that derivatives would be taken at another point. Return new arrays."
        )
    return outcome


def probes_at(backend: Backend, point: Moment, count: int, scales: Scaled) -> list[Probe]:
    """Draw several probes for a point; equal calls draw the same.

    Args:
        backend: Backend of the point.
        point: Params, state and inputs.
        count: Number of probes.
        scales: The scales of the leaves, by which the second state is at a distance.
    """
    draw, far = backend.compile(partial(_draws, backend)), [NUDGE * one for one in scales.state]
    return [Probe(*draw(backend.key(n), point.params, point.state, far)) for n in range(count)]


def _draws(backend: Backend, key: Any, params: Any, state: Any, far: Any) -> tuple[Any, ...]:
    trees = (state, state, params, state, state)
    *drawn, nudge = (
        backend.random(backend.fold(key, i), tree, "gaussian") for i, tree in enumerate(trees)
    )
    return (*drawn, shift(backend, state, 1.0, scaled(backend, nudge, far)))


def scaled(backend: Backend, tree: Any, factors: Sequence[Any]) -> Any:
    """Multiply each leaf of a tangent or cotangent by a factor of its own."""
    numbers = iter(factors)
    return backend.map(lambda leaf: leaf * next(numbers), tree)


def measured(
    dynamics: Dynamics[Any, Any, Any], point: Moment, probe: Probe, scales: Scaled
) -> list[dict[str, float]]:
    """Compute the gaps at the first state and at the second: at a state of zero, much vanishes.

    The tangent is in units of the scales of the state, the cotangent in units of one over those of
    the next state, so that each leaf counts.

    Returns:
        For each of the two states: the relative adjoint gaps of next state and output, and under
        ``"repeats"`` the relative distance of the outcomes of equal calls.
    """
    look = dynamics.backend.compile(partial(_gaps, dynamics))
    tangent = scaled(dynamics.backend, probe.tangent, scales.state)
    inverse = [1.0 / each for each in scales.next_state]
    cotangent = scaled(dynamics.backend, probe.cotangent, inverse)
    return [
        {
            name: float(number)
            for name, number in look(point.params, state, point.inputs, tangent, cotangent).items()
        }
        for state in (point.state, probe.state)
    ]


def _gaps(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    tangent: Any,
    cotangent: Any,
) -> dict[str, Any]:
    backend, inner = dynamics.backend, dynamics.backend.inner

    def length(tree: Any) -> Any:
        return inner(tree, tree) ** 0.5  # Without a guard against overflow: quick to compile.

    point = params, state, inputs
    outcomes = [dynamics.forward(*point), dynamics.forward(*point)]
    pushed, output_tangent = dynamics.jvp(*point, tangent)
    taped, pullback = dynamics.vjp(*point)
    outcomes.append(taped)
    _, pulled = pullback(cotangent, None)
    weights = cotangent_for(backend, taped.output)
    _, state_gradient = pullback(None, weights)
    one, *others = (_results(backend, each) for each in outcomes)
    apart = [length(backend.combine((1.0, one), (-1.0, other))) for other in others]
    scale = length(cotangent) * length(pushed) + length(pulled) * length(tangent)
    slope = length(state_gradient) * length(tangent)
    return {
        "repeats": sum(apart[1:], apart[0]) / (length(one) + _TINY),
        "next state": abs(inner(cotangent, pushed) - inner(pulled, tangent)) / (scale + _TINY),
        "output": abs(inner(weights, output_tangent) - inner(state_gradient, tangent))
        / (slope + _TINY),
    }


def mapped_gap(dynamics: Dynamics[Any, Any, Any], point: Moment, probe: Probe) -> float:
    """Compute the relative gap between JVPs mapped over two pairs and those of each pair alone.

    Ranks above 1 run the map. The gap is zero where the map raises, which no single pair runs, and
    on a backend that compiles, whose map is the compiler's.
    """
    backend, at = dynamics.backend, (point.params, probe.state, point.inputs)
    if backend.compiled:
        return 0.0
    pairs = [probe.tangent, probe.cotangent]
    stack = backend.map(lambda *leaves: backend.xp.stack(leaves), *pairs)
    try:
        mapped = backend.vmap(lambda one: dynamics.jvp(*at, one))(stack)
    except Exception:
        return 0.0
    gaps = []
    for index, pair in enumerate(pairs):
        one, other = (
            differentiable(backend, each)
            for each in (entry(backend, mapped, index), dynamics.jvp(*at, pair))
        )
        gap = float(norm(backend, backend.combine((1.0, one), (-1.0, other))))
        gaps.append(gap / (float(norm(backend, other)) + _TINY))
    return max(gaps)


def _results(backend: Backend, outcome: Outcome[Any]) -> list[Any]:
    return differentiable(backend, outcome.next_state) + differentiable(backend, outcome.output)


def cotangent_for(backend: Backend, output: Any) -> Any:
    """Return the cotangent that an output is tested with: 1 for a loss, else random numbers."""
    if is_loss(output):
        return backend.map(lambda leaf: leaf * 0 + 1, backend.zeros(output))
    return backend.random(backend.key(0), output, "gaussian")


def relative_gap(backend: Backend, one: Outcome[Any], other: Outcome[Any]) -> float:
    """Return the relative distance of two outcomes."""
    first, second = (_results(backend, each) for each in (one, other))
    gap = float(norm(backend, backend.combine((1.0, first), (-1.0, second))))
    return gap / (float(norm(backend, first)) + _TINY)


def bits(backend: Backend, tree: Any) -> list[bytes]:
    """Return the bytes of each leaf of a tree."""
    return [leaf.tobytes() for _, leaf in backend.named_leaves(backend.to_host(tree))]  # type: ignore[attr-defined]  # NumPy arrays
