"""Errors: one base class, and each subclass is also the fitting built-in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UOROError(Exception):
    """Base of every error this library raises on purpose."""


class UnknownNameError(UOROError, ValueError):
    """A name (of a backend, a task, an estimator, …) that nothing answers to."""

    def __init__(self, call: str, kind: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        listed = ", ".join(choices) or "none is registered"
        super().__init__(f"{call}: there is no {kind} '{name}'.{hint} Known: {listed}.")


class MissingFrameworkError(UOROError, ImportError):
    """A registered backend whose framework is not installed."""


class StructureError(UOROError, ValueError):
    """A tree whose structure, shapes or dtypes are not the ones wanted."""


class SettingError(UOROError, ValueError):
    """A setting outside its range, such as rank 0 or a negative learning rate."""


class NonFiniteLossError(UOROError, ArithmeticError):
    """The loss became infinite or not a number; everything before that step is kept.

    Attributes:
        step: Index of the offending learner step, counted from 0.
    """

    def __init__(self, call: str, step: int, loss: float) -> None:
        self.step = step
        super().__init__(
            f"{call}: the loss is {loss} at step {step}. The learner still holds the parameters, "
            "state and memory from before that step. Try a smaller learning rate."
        )


class StreamError(UOROError, ValueError):
    """A stream that cannot be read as asked: missing, empty, or malformed."""
