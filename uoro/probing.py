"""What a probe of a model measures at one point."""

from __future__ import annotations

from typing import Any

from uoro.algebra import moving
from uoro.backend import Backend
from uoro.dynamics import Dynamics

_TINY = 1e-30
"""What is added to a scale, so that nothing is divided by zero."""


def draws(backend: Backend, key: Any, params: Any, state: Any) -> list[Any]:
    """Draw a tangent and a cotangent of the state, and a direction of each; to be compiled."""
    trees = (state, state, params, state)
    return [backend.random(backend.fold(key, i), tree, "gaussian") for i, tree in enumerate(trees)]


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

    def norm(tree: Any) -> Any:
        return inner(tree, tree) ** 0.5  # It need not stand extremes, and compiles quickly.

    point = params, state, inputs
    outcomes = [dynamics.forward(*point), dynamics.forward(*point)]
    pushed, rate = dynamics.jvp(*point, tangent)
    taped, pullback = dynamics.vjp(*point)
    outcomes.append(taped)
    _, pulled = pullback(cotangent, None)
    _, sensitivity = pullback(None, 1.0)
    one, *others = ([*moving(backend, each.next_state), each.loss] for each in outcomes)
    apart = [norm(backend.combine((1.0, one), (-1.0, other))) for other in others]
    scale = norm(cotangent) * norm(pushed) + norm(pulled) * norm(tangent)
    slope = norm(sensitivity) * norm(tangent)
    return {
        "repeats": sum(apart[1:], apart[0]) / (norm(one) + _TINY),
        "next state": abs(inner(cotangent, pushed) - inner(pulled, tangent)) / (scale + _TINY),
        "loss": abs(rate - inner(sensitivity, tangent)) / (slope + _TINY),
    }


def bits(backend: Backend, tree: Any) -> list[bytes]:
    """Read the bits of a tree."""
    return [leaf.tobytes() for _, leaf in backend.named_leaves(backend.to_host(tree))]  # type: ignore[attr-defined]  # NumPy arrays
