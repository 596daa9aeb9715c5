"""A loss or a gradient that is not finite: stop, skip the item, or reset the carry."""

from __future__ import annotations

import math
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
PATIENCE = 100
"""Number of items in a row that may be skipped."""


def fault_of(estimate: Estimate, size: Any) -> Fault | None:
    """Return what is not finite: the loss, or the norm of the gradient."""
    for what, value in (("the loss", estimate.loss), ("the norm of the gradient", size)):
        if not math.isfinite(float(value)):
            return what, float(value)
    return None


class NonfinitePolicy:
    """Decide what happens to an item that gives a number that is not finite; count and log it.

    Args:
        choice: ``"stop"``, ``"skip"`` or ``"reset"``; `uoro.Learner` explains them.
        initial_state: Hidden state to start from where the present one is not finite.

    Attributes:
        skipped: Number of items skipped.
        skipped_in_a_row: Number of them since the last update.
        resets: Number of resets of the carry.
    """

    def __init__(self, choice: OnNonfinite, initial_state: Any) -> None:
        self.choice = choice
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

    def skip(self, backend: Backend, now: Progress, fault: Fault, step: int) -> None:
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
        elif self.skipped_in_a_row + 1 >= PATIENCE:
            hint = f"{PATIENCE} items in a row were skipped. Check the stream."
        if self.choice == "stop" or hint is not None:
            raise NonFiniteError(CALL, step, *fault, hint=hint)
        self.skipped += 1
        self.skipped_in_a_row += 1
        LOGGER.warning("%s is %s at step %d: the item was skipped", *fault, step)


def _is_finite(backend: Backend, tree: Any) -> bool:
    return math.isfinite(float(norm(backend, differentiable(backend, tree))))
