"""A model of one stream as a model of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from uoro.algebra import total
from uoro.backend import Backend
from uoro.dynamics import Batched, Dynamics, Outcome, Pullback


@runtime_checkable
class Looping(Protocol):
    """A backend that says whether its `vmap` is a plain loop, from which functions can be kept."""

    loops: bool


def many(dynamics: Dynamics[Any, Any, Any]) -> Dynamics[Any, Any, Any]:
    """Return dynamics of many streams: their own if they are `Batched`, else `Mapped` ones."""
    together = dynamics.many() if isinstance(dynamics, Batched) else None
    return Mapped(dynamics) if together is None else together


@dataclass(frozen=True)
class Mapped:
    """Dynamics mapped over streams: state, inputs and output are stacks, the params are shared.

    The pullback adds up what it pulls back to the params. It runs each stream again, unless the
    backend is `Looping`.
    """

    dynamics: Dynamics[Any, Any, Any]

    @property
    def backend(self) -> Backend:
        """The backend of the model."""
        return self.dynamics.backend

    @property
    def span(self) -> int:
        """Number of items that each stream consumes in a step."""
        return self.dynamics.span

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Run one step of every stream."""

        def one(state: Any, inputs: Any) -> Any:
            return tuple(self.dynamics.forward(params, state, inputs))

        return Outcome(*self.backend.vmap(one)(state, inputs))

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Compute the JVP of every stream."""

        def one(state: Any, inputs: Any, tangent: Any) -> Any:
            return self.dynamics.jvp(params, state, inputs, tangent)

        pushed, output_tangent = self.backend.vmap(one)(state, inputs, state_tangent)
        return pushed, output_tangent

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Run one step of every stream, and return the pullback of all."""
        pulls = list[Pullback[Any, Any]]()
        kept = isinstance(self.backend, Looping) and self.backend.loops

        def record(state: Any, inputs: Any) -> Any:
            outcome, pull = self.dynamics.vjp(params, state, inputs)
            pulls.append(pull)
            return tuple(outcome)

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            both = state_cotangent, output_cotangent
            known = iter(pulls)

            def one(state: Any, inputs: Any, *given: Any) -> Any:
                each = iter(given)
                pull = next(known) if kept else self.dynamics.vjp(params, state, inputs)[1]
                return pull(*(None if c is None else next(each) for c in both))

            given = [c for c in both if c is not None]
            by_params, by_state = self.backend.vmap(one)(state, inputs, *given)
            return total(self.backend, by_params), by_state

        if kept:
            return Outcome(*self.backend.vmap(record)(state, inputs)), pullback
        return self.forward(params, state, inputs), pullback
