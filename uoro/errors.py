"""Errors: one base class, and each subclass is also the fitting built-in."""

from __future__ import annotations

import difflib
import math
import operator
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

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

LARGEST_SEED = 2**63 - 1
"""The largest that every framework takes."""


def spelled(value: object) -> str:
    """Spell a value for an error: as in the call, but on one line and not too long."""
    try:
        words = " ".join(repr(value).split())
    except Exception:
        words = f"a {type(value).__name__} without a repr"
    return words if len(words) <= LONGEST_VALUE else f"{words[:LONGEST_VALUE]}…"


def require_count(call: str, what: str, value: SupportsIndex, *, least: int = 1) -> int:
    """Return a count, an integer of at least 1, or another least one, of whatever type.

    Raises:
        SettingError: If it is anything else.
    """
    count = _integer(value)
    if count is None or not least <= count <= sys.maxsize:
        most = "" if count is None or count < least else f", and no more than {sys.maxsize}"
        raise SettingError(f"{call}: the {what} must be an integer >= {least}{most}.")
    return count


def require_seed(call: str, seed: SupportsIndex) -> int:
    """Return a seed, an integer that every framework takes for one.

    Raises:
        SettingError: If it is anything else.
    """
    number = _integer(seed)
    if number is None or not 0 <= number <= LARGEST_SEED:
        raise SettingError(
            f"{call}: the seed must be an integer >= 0 and below 2**63, got {spelled(seed)}."
        )
    return number


def _integer(value: SupportsIndex) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def require_number(
    call: str,
    what: str,
    value: float,
    wanted: str,
    holds: Callable[[float], bool] = math.isfinite,
) -> float:
    """Return a real and finite number of which something holds.

    Args:
        call: What was called, as the user wrote it.
        what: What the number is.
        value: The number.
        wanted: What it must be, in words.
        holds: The same as a function; that it is finite needs not be said.

    Raises:
        SettingError: If it is not, or is no such number.
    """
    try:
        real = isinstance(value, Real) and not isinstance(value, bool)
        number = float(value) if real else math.nan
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and holds(number)):
        raise SettingError(f"{call}: the {what} must be {wanted}.")
    return number


def require_flag(call: str, what: str, value: bool) -> None:
    """Refuse what is neither true nor false, such as ``"no"``, which Python takes for true.

    Raises:
        SettingError: If it is neither.
    """
    if not isinstance(value, bool):
        raise SettingError(f"{call}: {what} is {spelled(value)}, wanted is True or False.")


def require_callable(call: str, what: str, value: object, wanted: str) -> None:
    """Refuse what cannot be called.

    Raises:
        SettingError: If it cannot.
    """
    if not callable(value):
        raise SettingError(f"{call}: the {what} is {spelled(value)}, wanted is {wanted}")


def require_choice(call: str, what: str, value: str, choices: Collection[str]) -> None:
    """Refuse a setting that is not one of several words.

    Raises:
        SettingError: If it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise SettingError(
            f"{call}: the {what} is {spelled(value)}; it must be one of {', '.join(choices)}."
        )


def require_known(call: str, kind: str, name: str, known: Mapping[str, Value]) -> Value:
    """Look a name up.

    Raises:
        UnknownNameError: If nothing answers to it; the nearest is named.
    """
    if not isinstance(name, str) or name not in known:
        raise UnknownNameError(call, kind, name, known)
    return known[name]


def require_methods(
    call: str, what: str, thing: object, methods: Iterable[str], wanted: str
) -> None:
    """Refuse a thing without the methods it is to have, or the class in the place of one made.

    Args:
        call: What was called, as the user wrote it.
        what: What the thing is to be.
        thing: The thing.
        methods: What will be called.
        wanted: What is wanted, and the way to get it, as the end of a sentence.

    Raises:
        SettingError: If it lacks one, or is a class.
    """
    if isinstance(thing, type):
        name = thing.__name__
        raise SettingError(f"{call}: the {what} is the class {name}. Make one of it: {name}(...).")
    if not all(callable(getattr(thing, method, None)) for method in methods):
        raise SettingError(f"{call}: the {what} is {spelled(thing)}, wanted is {wanted}")


def require_kind(call: str, what: str, thing: object, kind: type, wanted: str) -> None:
    """Refuse a thing that is not of a kind.

    Args:
        call: What was called, as the user wrote it.
        what: What the thing is to be.
        thing: The thing.
        kind: Its class.
        wanted: What is wanted, and the way to get it, as the end of a sentence.

    Raises:
        SettingError: If it is of another.
    """
    if not isinstance(thing, kind):
        raise SettingError(f"{call}: the {what} is {spelled(thing)}, wanted is {wanted}")


def require_list(call: str, what: str, values: Iterable[Value]) -> list[Value]:
    """Return a list of what a list, a tuple, a range or an array holds.

    Raises:
        SettingError: If it is another thing, such as a string.
    """
    length = getattr(values, "shape", (1,)) != () and hasattr(values, "__len__")
    if not length or isinstance(values, (type, str, bytes, Mapping)):
        raise SettingError(f"{call}: the {what} are {spelled(values)}, wanted is a list of them.")
    return list(values)


def require_path(call: str, what: str, path: str | os.PathLike[str]) -> Path:
    """Return a path that a file or a folder can have.

    Raises:
        SettingError: If it is none.
    """
    try:
        if isinstance(path, (str, os.PathLike)) and b"\0" not in os.fsencode(path):
            return Path(path)
    except ValueError:  # Characters that no file system has.
        pass
    raise SettingError(f"{call}: the {what} is {spelled(path)}, wanted is a path.")


def require_stream(call: str, stream: Iterable[Value]) -> Iterator[Value]:
    """Begin to read a stream.

    Raises:
        StreamError: If it is nothing that can be iterated over.
    """
    sequence = hasattr(stream, "__iter__") or hasattr(stream, "__getitem__")
    if not sequence or isinstance(stream, (type, str, bytes)) or getattr(stream, "shape", 1) == ():
        raise StreamError(
            f"{call}: the stream is {spelled(stream)}, wanted are items one after the other: an "
            "iterator, a list, or an array whose rows they are."
        )
    return iter(stream)
