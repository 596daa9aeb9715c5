"""The last resort among the autodiff modes: a JVP by central differences."""

from __future__ import annotations

from typing import Any

from uoro.algebra import differentiable, norm, shift
from uoro.arguments import is_loss
from uoro.derivatives.choosing import Route
from uoro.derivatives.differences import precision_of
from uoro.dynamics import Dynamics, Outcome, Pullback


def pushed_by_differences(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any, tangent: Any
) -> tuple[Any, Any]:
    """Compute the JVP of a tangent by a central difference: biased by about 1e-4 in float32.

    The step of the difference grows with the norm of the state and shrinks with that of the
    tangent.
    """
    backend = dynamics.backend
    dtype = precision_of(backend, state) or "float32"
    scale = 5e-3 if dtype != "float64" else 6e-6
    length = norm(backend, tangent)
    h = scale * (1.0 + norm(backend, differentiable(backend, state))) / (length + (length == 0))
    ends = [dynamics.forward(params, shift(backend, state, t, tangent), inputs) for t in (h, -h)]
    one, other = (
        differentiable(backend, end.next_state) + differentiable(backend, end.output)
        for end in ends
    )
    # Subtract first: equal ends then give zero and not the rounding error of a product.
    leaves = iter(backend.combine((0.5 / h, backend.combine((1.0, one), (-1.0, other)))))
    likes = tangent, backend.zeros(ends[0].output)
    pushed, output_tangent = (backend.map(lambda leaf: next(leaves), like) for like in likes)
    return pushed, output_tangent


class Differenced:
    """Dynamics whose JVP in the state is a central difference.

    Args:
        dynamics: The dynamics that supply forward and VJP.
    """

    span = 1

    def __init__(self, dynamics: Dynamics[Any, Any, Any]) -> None:
        self._dynamics = dynamics
        self.backend = dynamics.backend

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Compute the next state and the output."""
        return self._dynamics.forward(params, state, inputs)

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Compute the outcome and the pullback."""
        return self._dynamics.vjp(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Compute the JVP by differences; the tangent of a loss comes from the VJP and is exact."""
        pushed, output_tangent = pushed_by_differences(
            self._dynamics, params, state, inputs, state_tangent
        )
        if not is_loss(output_tangent):
            return pushed, output_tangent
        _, pullback = self._dynamics.vjp(params, state, inputs)
        return pushed, self.backend.inner(pullback(None, 1.0)[1], state_tangent)


def by_differences(dynamics: Dynamics[Any, Any, Any]) -> Route:
    """Return the autodiff mode that takes the JVP of dynamics by central differences."""
    caution = (
        "The JVP is a difference of two forward passes: the gradient is biased, by about 1e-4 of "
        "itself in float32."
    )
    return Route("central differences", Differenced(dynamics), caution)
