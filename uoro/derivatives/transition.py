"""The user's model as a function whose return value is checked at every call."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

from uoro.arguments import leaf_name, mismatch, require_flag, require_like, shape_of
from uoro.backend import Backend
from uoro.dynamics import Outcome
from uoro.errors import StructureError, spelled

CALL = "transition(params, state, inputs)"
"""The call, as errors quote it."""


def checked(
    transition: Callable[..., Any], backend: Backend, *, has_aux: bool = False
) -> Callable[[Any, Any, Any], Outcome[Any]]:
    """Return a transition that returns an `Outcome`, with its structure checked.

    The check compares structure, shapes and dtypes alone; it costs nothing in compiled code.

    Args:
        transition: A function ``(params, state, inputs) -> (next_state, output)``, where the
            output is a loss or any tree; with ``has_aux`` it returns a third element, which is
            passed on and not differentiated.
        backend: The backend of its arrays.
        has_aux: Whether the transition returns a third element; default no.

    Raises:
        StructureError: If the transition is not callable; the returned function raises it too, if
            a next state differs from the state in structure, or a leaf of the output is no array.
        SettingError: If ``has_aux`` is no `bool`.
    """
    if not callable(transition):
        raise StructureError(
            f"backend.dynamics({spelled(transition)}): transition: expected a function "
            f"(params, state, inputs) -> (next_state, loss), got {spelled(transition)}."
        )
    require_flag("backend.dynamics(transition, has_aux=...)", "has_aux", has_aux)
    expected = "a tuple " + ("(next_state, loss, aux)" if has_aux else "(next_state, loss)")

    def outcome(params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        returned = transition(params, state, inputs)
        if not isinstance(returned, tuple) or len(returned) != (3 if has_aux else 2):
            got = (
                f"a tuple of {len(returned)}"
                if isinstance(returned, tuple)
                else f"a {type(returned).__name__}"
            )
            hint = "For a third element, pass has_aux=True." if not has_aux else ""
            raise StructureError(mismatch(CALL, "returned value", expected, got, hint))
        result = Outcome(*returned)
        require_like(
            backend,
            result.next_state,
            state,
            call=f"{CALL}: next_state",
            hint="Return a next state with the structure, shapes and dtypes of the state; where a "
            "dtype differs, check that of the inputs too.",
        )
        if shape_of(result.output) is None and isinstance(result.output, float | int | NoneType):
            got, hint = spelled(result.output), "Compute it from the state."
            raise StructureError(
                mismatch(CALL, "loss", "a scalar array of the framework", got, hint)
            )
        for name, leaf in backend.named_leaves(result.output):
            if shape_of(leaf) is None:
                place = f"{leaf_name(name)} of the output"
                raise StructureError(mismatch(CALL, place, "an array", spelled(leaf)))
        return result

    return outcome
