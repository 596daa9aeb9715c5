"""Dynamics whose JVP is a difference quotient with a step that ignores the dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.algebra import shift
from uoro.backend import Backend


@dataclass(frozen=True)
class Differenced:
    """Dynamics whose jvp is a difference quotient, with a step that forgets the dtype.

    In float32 a step of 1e-7 leaves mostly rounding. Several public implementations do that.
    """

    dynamics: Any
    h: float = 1e-7
    span: int = 1

    @property
    def backend(self) -> Backend:
        """The backend of the dynamics."""
        backend: Backend = self.dynamics.backend
        return backend

    def forward(self, params: Any, state: Any, inputs: Any) -> Any:
        """Compute one step."""
        return self.dynamics.forward(params, state, inputs)

    def vjp(self, params: Any, state: Any, inputs: Any) -> Any:
        """Return the true pullback."""
        return self.dynamics.vjp(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> Any:
        """Compute ``(F(s + h s̃) - F(s)) / h``."""
        combine = self.backend.combine
        here = self.dynamics.forward(params, state, inputs)
        moved = shift(self.backend, state, self.h, state_tangent)
        there = self.dynamics.forward(params, moved, inputs)
        quotient = combine((1.0 / self.h, there.next_state), (-1.0 / self.h, here.next_state))
        return quotient, (there.loss - here.loss) / self.h
