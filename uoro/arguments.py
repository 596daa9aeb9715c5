"""Checks of what a user gives: each returns it, or raises an error that says what was expected."""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

from uoro.backend import Backend
from uoro.errors import SettingError, StreamError, StructureError, UnknownNameError, spelled

Value = TypeVar("Value")

LARGEST_SEED = 2**63 - 1
"""The largest that every framework takes."""


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


def require_dynamics(call: str, dynamics: object) -> None:
    """Refuse anything but dynamics, such as the transition they are made of.

    Raises:
        SettingError: Naming the call, and the way to make them.
    """
    require_methods(
        call,
        "dynamics",
        dynamics,
        ("forward", "jvp", "vjp"),
        "what load_backend(name).dynamics(transition) makes of a transition.",
    )


def require_estimator(call: str, estimator: object) -> None:
    """Refuse anything but an estimator.

    Raises:
        SettingError: Naming the call, and what would do.
    """
    require_methods(
        call,
        "estimator",
        estimator,
        ("init", "draw", "step"),
        "an estimator, such as UORO() or RTRL().",
    )


def require_optimizer(call: str, optimizer: object) -> None:
    """Refuse anything but an optimizer of this library's kind.

    Raises:
        SettingError: Naming the call, and what would do.
    """
    require_methods(
        call,
        "optimizer",
        optimizer,
        ("init", "update"),
        "an optimizer, such as SGD(1e-2), or one of the framework's in a TorchOptimizer or an "
        "OptaxOptimizer.",
    )


def leaf_name(name: str) -> str:
    """Name a leaf in an error; a tree that is a bare array has a leaf without a name."""
    return f"leaf '{name}'" if name else "the array"


def shape_of(leaf: Any) -> tuple[int, ...] | None:
    """Give the shape of a leaf; ``None`` if it is no array."""
    shape = getattr(leaf, "shape", None)
    return tuple(shape) if isinstance(shape, (tuple, list)) else None


def require_arrays(backend: Backend, tree: Any, call: str) -> None:
    """Refuse a tree whose leaves are not arrays of the backend's.

    Args:
        backend: The backend it is to be of.
        tree: The tree.
        call: What was called, as the user wrote it.

    Raises:
        StructureError: Naming the call, the tree, and the way out.
    """
    hint = "wanted are arrays of the framework. Make them: backend.from_host(...)."
    try:
        for name, leaf in backend.named_leaves(tree):
            if shape_of(leaf) is None:
                raise StructureError(f"{call}: {leaf_name(name)} is {spelled(leaf)}, {hint}")
        backend.zeros(tree)
    except (TypeError, AttributeError, RuntimeError, DeprecationWarning) as error:
        raise StructureError(f"{call}: it is {spelled(tree)}, {hint}") from error


def require_like(
    backend: Backend,
    got: Any,
    wanted: Any,
    *,
    call: str,
    batch: tuple[int, ...] = (),
    tangent: bool = False,
    hint: str,
) -> None:
    """Refuse a tree that differs from another in structure, shapes or dtypes.

    Args:
        backend: The backend of both trees.
        got: The tree in question.
        wanted: The tree it must resemble.
        call: What was called, as the user wrote it.
        batch: Leading axes that ``got`` has in addition.
        tangent: Whether ``got`` must be shaped like a tangent of ``wanted``.
        hint: The way out.

    Raises:
        StructureError: Naming the call, the leaf, what was got and what was wanted.
    """
    if isinstance(wanted, (tuple, list, dict)) and type(got) is not type(wanted):
        raise StructureError(
            f"{call}: it is a {type(got).__name__}, wanted is a {type(wanted).__name__}. {hint}"
        )
    mine, theirs = backend.named_leaves(got), backend.named_leaves(wanted)
    if tangent:
        theirs = [(name, leaf) for name, leaf in theirs if backend.parts(leaf)]
    if [name for name, _ in mine] != [name for name, _ in theirs]:
        raise StructureError(
            f"{call}: the leaves are {[name for name, _ in mine]}, "
            f"those wanted are {[name for name, _ in theirs]}. {hint}"
        )
    for (name, leaf), (_, model) in zip(mine, theirs, strict=True):
        shape = shape_of(leaf)
        if shape is None:
            raise StructureError(
                f"{call}: {leaf_name(name)} is {spelled(leaf)}, wanted is an array. {hint}"
            )
        wanted_shape = batch + tuple(model.shape)
        if shape != wanted_shape:
            raise StructureError(
                f"{call}: {leaf_name(name)} has shape {shape}, wanted is {wanted_shape}. {hint}"
            )
        if leaf.dtype != model.dtype:
            raise StructureError(
                f"{call}: {leaf_name(name)} has dtype {leaf.dtype}, wanted is {model.dtype}. {hint}"
            )


def require_stack(backend: Backend, tree: Any, count: int, call: str) -> None:
    """Refuse a tree some leaf of which does not have one row for each stream.

    Args:
        backend: The backend of the tree.
        tree: The stack.
        count: How many rows are wanted.
        call: What was called.

    Raises:
        StructureError: Naming the call, the leaf, and its shape.
    """
    for name, leaf in backend.named_leaves(tree):
        shape = shape_of(leaf)
        if not shape or shape[0] != count:
            got = f"is {spelled(leaf)}" if shape is None else f"has shape {shape}"
            raise StructureError(
                f"{call}: {leaf_name(name)} {got}, wanted is a leading axis of {count}. Give one "
                "row for each stream."
            )
