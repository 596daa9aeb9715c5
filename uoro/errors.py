"""Errors: one base class, and each subclass is also the fitting built-in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

Value = TypeVar("Value")


class UOROError(Exception):
    """Base of every error this library raises on purpose.

    It passes from one process to another as it is, whatever its constructor takes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[UOROError], arguments: tuple[Any, ...], fields: dict[str, Any]
) -> UOROError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(fields)
    return error


class UnknownNameError(UOROError, ValueError):
    """A name (of a backend, a task, an estimator, …) that nothing answers to."""

    def __init__(self, call: str, kind: str, name: object, known: Iterable[str]) -> None:
        choices = sorted(known)
        wanted = name if isinstance(name, str) else spelled(name)
        near = difflib.get_close_matches(wanted, choices, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        listed = ", ".join(choices) or "none is registered"
        super().__init__(f"{call}: there is no {kind} '{wanted}'.{hint} Known: {listed}.")


class MissingFrameworkError(UOROError, ImportError):
    """A registered backend whose framework is not installed."""


class BrokenBackendError(UOROError, ImportError):
    """A registered backend that cannot be loaded although its framework is there."""


class StructureError(UOROError, ValueError):
    """A tree whose structure, shapes or dtypes are not the ones wanted."""


class SettingError(UOROError, ValueError):
    """A setting outside its range, such as rank 0 or a negative learning rate."""


class DerivativeError(UOROError, RuntimeError):
    """A model that cannot be differentiated in a way to build on."""


class DerivativeWarning(UserWarning):
    """A model whose derivatives are not, or not quite, those of its forward pass."""


class NonFiniteError(UOROError, ArithmeticError):
    """A loss or a gradient became infinite or not a number; what was before that step is kept.

    Attributes:
        step: Index of the offending learner step, counted from 0.
    """

    def __init__(
        self,
        call: str,
        step: int,
        what: str,
        value: float,
        *,
        kept: bool = True,
        hint: str | None = None,
    ) -> None:
        self.step = step
        holds = (
            "The learner still holds the parameters, state and memory from before that step."
            if kept
            else "What was before was given away, and the learner cannot go on."
        )
        super().__init__(
            f"{call}: {what} is {value} at step {step}. {holds} "
            f"{hint or 'Try a smaller learning rate.'}"
        )


class ReproductionError(UOROError, RuntimeError):
    """Results that cannot be read, or a run that was killed."""


class CheckpointError(UOROError, OSError):
    """A checkpoint or another file of a run that cannot be read, is damaged, or cannot be written.

    An `OSError`, as a damaged gzip file is one: it is about what is on the disk.
    """


class LockedError(UOROError, RuntimeError):
    """A folder in which another run is at work."""


class StreamError(UOROError, ValueError):
    """A stream that cannot be read as asked: missing, empty, or malformed."""


class UnseekableError(StreamError, AttributeError):
    """A stream that has no position, as what it reads from has none.

    It is an `AttributeError` too, so that ``hasattr(stream, "position")`` is false.
    """


LONGEST_VALUE = 80
"""How many characters of a value an error shows."""


def spelled(value: object) -> str:
    """Spell a value for an error: as in the call, but on one line and not too long."""
    try:
        words = " ".join(repr(value).split())
    except Exception:
        words = f"a {type(value).__name__} without a repr"
    return words if len(words) <= LONGEST_VALUE else f"{words[:LONGEST_VALUE]}…"
