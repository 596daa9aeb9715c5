"""The user's model as one function, held to its contract at every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uoro.arguments import require_flag, require_like
from uoro.backend import Backend
from uoro.dynamics import Outcome
from uoro.errors import StructureError, spelled


def checked(
    transition: Callable[..., Any], backend: Backend, *, has_aux: bool = False
) -> Callable[[Any, Any, Any], Outcome[Any]]:
    """Wrap a transition so that it returns an `Outcome`, or an error that says what is wrong.

    Only structure, shapes and dtypes are looked at, so the check costs nothing under a
    compiler, which traces it away.

    Args:
        transition: ``(params, state, inputs) -> (next_state, loss)``, or with ``has_aux`` a
            third element that is passed on and not differentiated.
        backend: The backend of its arrays.
        has_aux: Whether that third element is there.

    Raises:
        StructureError: If the transition is no function; from the wrapped function, if it breaks
            the contract.
        SettingError: If ``has_aux`` is neither true nor false.
    """
    if not callable(transition):
        raise StructureError(
            f"backend.dynamics({spelled(transition)}): wanted is a function "
            "transition(params, state, inputs) -> (next_state, loss)."
        )
    require_flag("backend.dynamics(transition, has_aux=...)", "has_aux", has_aux)
    wanted = "(next_state, loss, aux)" if has_aux else "(next_state, loss)"

    def outcome(params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        returned = transition(params, state, inputs)
        if not isinstance(returned, tuple) or len(returned) != (3 if has_aux else 2):
            got = f"{len(returned)} elements" if isinstance(returned, tuple) else type(returned)
            hint = " For a third element, pass has_aux=True." if not has_aux else ""
            raise StructureError(
                f"transition(params, state, inputs): it returned {got}, "
                f"wanted is a tuple {wanted}.{hint}"
            )
        result = Outcome(*returned)
        require_like(
            backend,
            result.next_state,
            state,
            call="transition(params, state, inputs): next_state",
            hint="The next state must have the structure, shapes and dtypes of the state; where a "
            "dtype differs, look at the inputs' too.",
        )
        shape = getattr(result.loss, "shape", None)
        if shape is None:
            raise StructureError(
                f"transition(params, state, inputs): the loss is {spelled(result.loss)}, wanted is "
                "a scalar array of the framework."
            )
        shape = tuple(shape)
        if shape != ():
            raise StructureError(
                f"transition(params, state, inputs): the loss has shape {shape}, wanted is a "
                "scalar (). Sum or average it; for several streams at once, see uoro.Streams."
            )
        return result

    return outcome
