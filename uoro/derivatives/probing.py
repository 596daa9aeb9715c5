"""What a probe of a model measures at one point."""

from __future__ import annotations

from typing import Any, NamedTuple

from uoro.algebra import differentiable, norm, shift
from uoro.backend import Backend
from uoro.dynamics import Dynamics, Outcome

NUDGE = 0.5
"""How far off the first state a model is looked at too, in units of a standard normal draw."""

_TINY = 1e-30
"""What is added to a scale, so that nothing is divided by zero."""


class Probe(NamedTuple):
    """Where a model is looked at, and along what.

    Attributes:
        tangent: Of the state.
        cotangent: Of the state.
        by_params: A direction of the params.
        by_state: A direction of the state.
        state: A state some way off the first.
    """

    tangent: Any
    cotangent: Any
    by_params: Any
    by_state: Any
    state: Any


def draws(backend: Backend, key: Any, params: Any, state: Any) -> tuple[Any, ...]:
    """Draw what a `Probe` holds; to be compiled."""
    trees = (state, state, params, state, state)
    *drawn, nudge = (
        backend.random(backend.fold(key, i), tree, "gaussian") for i, tree in enumerate(trees)
    )
    return (*drawn, shift(backend, state, NUDGE, nudge))


def look_at(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    tangent: Any,
    cotangent: Any,
) -> dict[str, Any]:
    """Measure the two adjoint gaps, and how far equal calls differ; to be compiled."""
    backend, inner = dynamics.backend, dynamics.backend.inner

    def length(tree: Any) -> Any:
        return inner(tree, tree) ** 0.5  # It need not stand extremes, and compiles quickly.

    point = params, state, inputs
    outcomes = [dynamics.forward(*point), dynamics.forward(*point)]
    pushed, loss_tangent = dynamics.jvp(*point, tangent)
    taped, pullback = dynamics.vjp(*point)
    outcomes.append(taped)
    _, pulled = pullback(cotangent, None)
    _, state_gradient = pullback(None, 1.0)
    one, *others = ([*differentiable(backend, each.next_state), each.loss] for each in outcomes)
    apart = [length(backend.combine((1.0, one), (-1.0, other))) for other in others]
    scale = length(cotangent) * length(pushed) + length(pulled) * length(tangent)
    slope = length(state_gradient) * length(tangent)
    return {
        "repeats": sum(apart[1:], apart[0]) / (length(one) + _TINY),
        "next state": abs(inner(cotangent, pushed) - inner(pulled, tangent)) / (scale + _TINY),
        "loss": abs(loss_tangent - inner(state_gradient, tangent)) / (slope + _TINY),
    }


def relative_gap(backend: Backend, one: Outcome[Any], other: Outcome[Any]) -> float:
    """Compare two outcomes."""
    first, second = (
        [*differentiable(backend, each.next_state), each.loss] for each in (one, other)
    )
    gap = float(norm(backend, backend.combine((1.0, first), (-1.0, second))))
    return gap / (float(norm(backend, first)) + _TINY)


def bits(backend: Backend, tree: Any) -> list[bytes]:
    """Read the bits of a tree."""
    return [leaf.tobytes() for _, leaf in backend.named_leaves(backend.to_host(tree))]  # type: ignore[attr-defined]  # NumPy arrays
