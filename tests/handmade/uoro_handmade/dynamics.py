"""`Dynamics` of a transition written in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from uoro.derivatives.transition import checked
from uoro.dynamics import Outcome, Pullback
from uoro.errors import StructureError
from uoro_handmade.tape import Tape
from uoro_handmade.traced import Traced, derivative, plain, trace
from uoro_handmade.trees import map_leaves

if TYPE_CHECKING:
    from uoro_handmade.backend import HandmadeBackend


class HandmadeDynamics:
    """A step, and its derivatives from the tape on which the step was written down.

    Args:
        backend: The backend of the arrays.
        transition: ``(params, state, inputs) -> (next_state, output)`` in functions of NumPy.
        has_aux: Whether it returns a third element.
    """

    span = 1

    def __init__(
        self, backend: HandmadeBackend, transition: Callable[..., Any], has_aux: bool
    ) -> None:
        self.backend = backend
        self._outcome = checked(transition, backend, has_aux=has_aux)

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Take the step that `vjp` takes, so that the two agree in every bit."""
        outcome, _ = self.vjp(params, state, inputs)
        return outcome

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Write the step down, and walk the tape forward from the state."""
        tape, (_, start), traced = self._written(params, state, inputs)
        of = partial(derivative, tape.push(_placed(start, state_tangent)))
        return map_leaves(of, traced.next_state), map_leaves(of, traced.output)

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Write the step down once, for each pullback to walk the tape back."""
        tape, start, traced = self._written(params, state, inputs)

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            given: list[tuple[int, Any]] = []
            if state_cotangent is not None:
                given += _placed(traced.next_state, state_cotangent)
            if output_cotangent is not None:
                given += _placed(traced.output, output_cotangent)
            pulled: tuple[Any, Any] = map_leaves(partial(derivative, tape.pull(given)), start)
            return pulled

        outcome: Outcome[Any] = map_leaves(plain, traced)
        return outcome, pullback

    def _written(self, params: Any, state: Any, inputs: Any) -> tuple[Tape, Any, Outcome[Any]]:
        """Take a step on a new tape, which starts with the params and the state."""
        tape = Tape()
        start = map_leaves(partial(trace, tape), (params, state))
        return tape, start, self._outcome(start[0], start[1], inputs)


def _placed(arrays: Any, derivatives: Any) -> list[tuple[int, Any]]:
    """List derivatives by the places of their arrays, leaving out those of arrays off the tape.

    Raises:
        StructureError: If they are not shaped like the arrays.
    """
    call, found = "a tangent or cotangent", list[tuple[int, Any]]()

    def place(array: Any, given: Any) -> None:
        if np.shape(given) != array.shape:
            raise StructureError(f"{call}: expected shape {array.shape}, got {np.shape(given)}.")
        if isinstance(array, Traced):
            found.append((array.place, given))

    map_leaves(place, arrays, derivatives, call=call)
    return found
