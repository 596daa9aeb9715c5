"""A loss or a gradient that is not finite: stop, skip the item, or reset the carry."""

from __future__ import annotations

import math
from cmath import isfinite
from typing import Any, Literal, TypeAlias

from uoro.algebra import differentiable, norm
from uoro.backend import Backend
from uoro.errors import NonFiniteError
from uoro.estimator import Estimate
from uoro.learning.carry import Progress
from uoro.learning.log import LOGGER
from uoro.learning.update import Update

OnNonfinite: TypeAlias = Literal["stop", "skip", "reset"]
Fault: TypeAlias = tuple[str, float]
"""What is not finite, and its value."""

CALL = "Learner.step(inputs)"
LOSS, GRADIENT = "the loss", "the norm of the gradient"
AT_ZERO = (
    "the derivative of a norm, a square root or a logarithm may be infinite where its argument is "
    "zero"
)
PATIENCE = 100
"""Number of items in a row that may be skipped."""


def fault_of(estimate: Estimate, size: Any) -> Fault | None:
    """Return what is not finite: the loss, or the norm of the gradient."""
    for what, value in ((LOSS, estimate.loss), (GRADIENT, size)):
        if not math.isfinite(float(value)):
            return what, float(value)
    return None


def cause_of(backend: Backend, inputs: Any, fault: Fault, *, before: Any = None) -> str | None:
    """Return what may have caused a fault, and the way out; ``None`` if nothing is known.

    Args:
        backend: Backend.
        inputs: Item of the step.
        fault: What is not finite.
        before: Item of the step before, if there was one.
    """
    found = _unfinite_input(backend, inputs)
    if found is not None:
        return f"Of this item, {found}. Mend the stream, or try on_nonfinite='skip'."
    found = _unfinite_input(backend, before)
    if found is not None:
        return f"Of the item before, {found}. Mend the stream, or try on_nonfinite='reset'."
    what, number = fault
    if what == GRADIENT and math.isnan(number):
        return (
            f"The loss and the item are finite: {AT_ZERO}. Add a small constant to the argument, "
            "or try a smaller learning rate."
        )
    return None


class NonfinitePolicy:
    """Decide what happens to an item that gives a number that is not finite; count and log it.

    Args:
        choice: ``"stop"``, ``"skip"`` or ``"reset"``; `uoro.Learner` explains them.
        initial_state: Hidden state to start from where the present one is not finite.
        call: The call that errors name.
        held: What is kept when the policy raises, for errors; by default, of a learner.

    Attributes:
        skipped: Number of items skipped.
        skipped_in_a_row: Number of them since the last update.
        resets: Number of resets of the carry.
        call: The call that errors name.
    """

    def __init__(
        self,
        choice: OnNonfinite,
        initial_state: Any,
        *,
        call: str = CALL,
        held: str | None = None,
    ) -> None:
        self.choice = choice
        self.call, self._held = call, held
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.resets = 0
        self._initial_state = initial_state

    def reset(
        self, update: Update, now: Progress, inputs: Any, fault: Fault, step: int
    ) -> Progress:
        """Return the progress with the initial carry, and the initial state where it must be."""
        lost = not _is_finite(update.backend, now.state)
        state = self._initial_state if lost else now.state
        carry = update.estimator.init(update.dynamics, now.params, state, inputs=inputs)
        self.resets += 1
        both = " and the state" if lost else ""
        LOGGER.warning("%s is %s at step %d: the carry%s was reset", *fault, step, both)
        return now._replace(carry=carry, state=state)

    def skip(
        self, backend: Backend, now: Progress, fault: Fault, step: int, cause: str | None
    ) -> None:
        """Skip an item.

        Raises:
            NonFiniteError: If the choice is to stop; if skipping cannot help, because what the
                learner holds is not finite; or if `PATIENCE` items in a row were skipped.
        """
        held = (("params", now.params), ("state", now.state), ("carry", now.carry))
        broken = [name for name, tree in held if not _is_finite(backend, tree)]
        hint = None
        if broken:
            hint = (
                f"Not finite before this item already: {', '.join(broken)}. Skipping the item does "
                "not help; load a checkpoint, or try on_nonfinite='reset'."
            )
            if broken == ["carry"]:
                hint += f" A carry overflows if the model diverges; or {AT_ZERO}."
            elif cause is not None and AT_ZERO not in cause:
                hint += f" {cause}"
        elif self.skipped_in_a_row + 1 >= PATIENCE:
            hint = f"{PATIENCE} items in a row were skipped. Check the stream."
        if self.choice == "stop" or hint is not None:
            raise NonFiniteError(self.call, step, *fault, held=self._held, hint=hint or cause)
        self.skipped += 1
        self.skipped_in_a_row += 1
        LOGGER.warning("%s is %s at step %d: the item was skipped", *fault, step)


def _is_finite(backend: Backend, tree: Any) -> bool:
    return math.isfinite(float(norm(backend, differentiable(backend, tree))))


def _unfinite_input(backend: Backend, inputs: Any) -> str | None:
    """Return the first number of an item that is not finite, in words."""
    for name, leaf in backend.named_leaves(inputs):
        found = _first_unfinite(leaf)
        if found is not None:
            place, number = found
            where = f" at index {list(place)}" if place else ""
            return f"{f'input {name!r}' if name else 'the input'} is {number}{where}"
    return None


def _first_unfinite(leaf: Any) -> tuple[tuple[int, ...], Any] | None:
    """Return the index and the value of the first number that is not finite."""
    try:
        values = leaf.tolist() if hasattr(leaf, "tolist") else leaf
        if not isinstance(values, list):
            return None if isfinite(values) else ((), values)
    except (TypeError, ValueError, NotImplementedError):
        return None  # A random key, or another thing without numbers.
    for index, value in enumerate(values):
        found = _first_unfinite(value)
        if found is not None:
            return (index, *found[0]), found[1]
    return None
