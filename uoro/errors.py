"""Error classes: one base class; each subclass also derives from the matching built-in error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

Value = TypeVar("Value")


class UOROError(Exception):
    """Base class of all errors that this library raises.

    Errors survive pickling, whatever arguments their constructors take.
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
    """Unknown name of a backend, a task, an estimator, ….

    Args:
        call: The call, as the user wrote it.
        kind: What the name would name, such as ``"backend"``.
        name: The unknown name.
        known: All known names.
    """

    def __init__(self, call: str, kind: str, name: object, known: Iterable[str]) -> None:
        choices = sorted(known)
        text = name if isinstance(name, str) else spelled(name)
        near = difflib.get_close_matches(text, choices, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        listed = ", ".join(choices) or "none"
        super().__init__(f"{call}: there is no {kind} '{text}'.{hint} Known: {listed}.")


class MissingFrameworkError(UOROError, ImportError):
    """The framework of a registered backend is not installed."""


class BrokenBackendError(UOROError, ImportError):
    """A registered backend cannot be loaded although its framework is installed."""


class StructureError(UOROError, ValueError):
    """The structure, a shape or a dtype of a tree differs from the expected one."""


class SettingError(UOROError, ValueError):
    """A setting is out of range, such as rank 0 or a negative learning rate."""


class DerivativeError(UOROError, RuntimeError):
    """A model cannot be differentiated correctly, or is not a pure function."""


class UOROWarning(UserWarning):
    """Base class of the warnings that this library issues, except deprecations."""


class DerivativeWarning(UOROWarning):
    """The derivatives of a model may differ from those of its forward pass."""


class DivergenceWarning(UOROWarning):
    """The loss, or what an estimator carries, is far above its usual level."""


class NonFiniteError(UOROError, ArithmeticError):
    """A loss or a gradient is infinite or not a number.

    Attributes:
        step: Index of the learner step, counted from 0; ``None`` if it is not known.
    """

    def __init__(
        self,
        call: str,
        step: int | None,
        what: str,
        value: float,
        *,
        kept: bool = True,
        held: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.step = step
        holds = held or (
            "The learner keeps the parameters, the hidden state and the carry of the step before."
            if kept
            else "The previous step's buffers were donated (donate=True); reload a checkpoint."
        )
        super().__init__(
            f"{call}: {what} is {value}{'' if step is None else f' at step {step}'}. {holds} "
            f"{hint or 'Try a smaller learning rate.'}"
        )


class ReproductionError(UOROError, RuntimeError):
    """Results of a reproduction cannot be read, or a run was killed."""


class CheckpointError(UOROError, OSError):
    """A checkpoint or another file of a run is damaged, or cannot be read or written.

    The class derives from `OSError`, as `gzip.BadGzipFile` does.
    """


class LockedError(UOROError, RuntimeError):
    """Another run is at work in the folder."""


class StreamError(UOROError, ValueError):
    """A stream is missing, empty or malformed."""


class UnseekableError(StreamError, AttributeError):
    """A stream has no position, because its source has none.

    The class derives from `AttributeError`, so that ``hasattr(stream, "position")`` is false.
    """


LONGEST_VALUE = 80
"""Number of characters of a value that an error shows at most."""


def spelled(value: object) -> str:
    """Return the `repr` of a value on one line, cut to `LONGEST_VALUE` characters."""
    try:
        words = " ".join(repr(value).split())
    except Exception:
        words = f"a {type(value).__name__} without a repr"
    return words if len(words) <= LONGEST_VALUE else f"{words[:LONGEST_VALUE]}…"
