"""Checks of arguments: each returns its argument, or raises an error in the library's one form."""

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
from uoro.optimizer import Optimizer, in_present_order

Value = TypeVar("Value")

LARGEST_SEED = 2**63 - 1
"""The largest seed that every framework accepts."""


def mismatch(call: str, place: str, expected: str, got: str, hint: str = "") -> str:
    """Return an error message in the library's one form.

    Args:
        call: The call, as the user wrote it.
        place: The argument or the leaf within the call; may be empty.
        expected: A noun phrase.
        got: The value that was passed, spelled.
        hint: A sentence with the way out; may be empty.

    Example:
        >>> from uoro.arguments import mismatch
        >>> mismatch("UORO(rank=0)", "rank", "an integer >= 1", "0")
        'UORO(rank=0): rank: expected an integer >= 1, got 0.'
    """
    where = f"{call}: {place}" if place else call
    return f"{where}: expected {expected}, got {got}.{' ' if hint else ''}{hint}"


def require_count(call: str, what: str, value: SupportsIndex, *, least: int = 1) -> int:
    """Return a count as an `int`.

    Args:
        call: The call, as the user wrote it.
        what: The name of the count.
        value: The count, of any integer type.
        least: The smallest count accepted.

    Raises:
        SettingError: If the value is no integer, or out of range.
    """
    count = _integer(value)
    if count is None or not least <= count <= sys.maxsize:
        most = "" if count is None or count < least else f" and <= {sys.maxsize}"
        expected = f"an integer >= {least}{most}"
        raise SettingError(mismatch(call, what, expected, spelled(value)))
    return count


def require_seed(call: str, seed: SupportsIndex) -> int:
    """Return a seed as an `int` that every framework accepts.

    Raises:
        SettingError: If the seed is no integer, or not in [0, 2**63).
    """
    number = _integer(seed)
    if number is None or not 0 <= number <= LARGEST_SEED:
        raise SettingError(mismatch(call, "seed", "an integer in [0, 2**63)", spelled(seed)))
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
    expected: str,
    holds: Callable[[float], bool] = math.isfinite,
) -> float:
    """Return a real, finite number that satisfies a condition.

    Args:
        call: The call, as the user wrote it.
        what: The name of the number.
        value: The number.
        expected: The condition in words, a noun phrase.
        holds: The condition as a function; finiteness is checked in any case.

    Raises:
        SettingError: If the value is no finite real number, or the condition fails.
    """
    try:
        real = isinstance(value, Real) and not isinstance(value, bool)
        number = float(value) if real else math.nan
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and holds(number)):
        raise SettingError(mismatch(call, what, expected, spelled(value)))
    return number


def require_flag(call: str, what: str, value: bool) -> None:
    """Check that a flag is a `bool`; a text such as ``"no"`` would count as true.

    Raises:
        SettingError: If the value is no `bool`.
    """
    if not isinstance(value, bool):
        raise SettingError(mismatch(call, what, "True or False", spelled(value)))


def require_callable(call: str, what: str, value: object, expected: str) -> None:
    """Check that a value can be called.

    Args:
        call: The call, as the user wrote it.
        what: The name of the argument.
        value: The value.
        expected: A noun phrase.

    Raises:
        SettingError: If the value is not callable.
    """
    if not callable(value):
        raise SettingError(mismatch(call, what, expected, spelled(value)))


def require_choice(call: str, what: str, value: str, choices: Collection[str]) -> None:
    """Check that a setting is one of several words.

    Raises:
        SettingError: If the setting is none of the choices.
    """
    if not isinstance(value, str) or value not in choices:
        expected = f"one of {', '.join(map(repr, choices))}"
        raise SettingError(mismatch(call, what, expected, spelled(value)))


def require_known(call: str, kind: str, name: str, known: Mapping[str, Value]) -> Value:
    """Return the value registered under a name.

    Raises:
        UnknownNameError: If the name is not registered; the nearest name is suggested.
    """
    if not isinstance(name, str) or name not in known:
        raise UnknownNameError(call, kind, name, known)
    return known[name]


def require_methods(
    call: str, what: str, thing: object, methods: Iterable[str], expected: str, hint: str = ""
) -> None:
    """Check that an object has certain methods, and is an instance and not a class.

    Args:
        call: The call, as the user wrote it.
        what: The name of the argument.
        thing: The object.
        methods: Names of the methods.
        expected: A noun phrase.
        hint: A sentence with the way out.

    Raises:
        SettingError: If a method is missing, or the object is a class.
    """
    if isinstance(thing, type):
        name = thing.__name__
        hint = f"Build an instance: {name}(...)."
        raise SettingError(mismatch(call, what, expected, f"the class {name}", hint))
    if not all(callable(getattr(thing, method, None)) for method in methods):
        raise SettingError(mismatch(call, what, expected, spelled(thing), hint))


def require_kind(
    call: str, what: str, thing: object, kind: type, expected: str, hint: str = ""
) -> None:
    """Check that an object is an instance of a class.

    Args:
        call: The call, as the user wrote it.
        what: The name of the argument.
        thing: The object.
        kind: The class.
        expected: A noun phrase.
        hint: A sentence with the way out.

    Raises:
        SettingError: If the object is no instance of the class.
    """
    if not isinstance(thing, kind):
        raise SettingError(mismatch(call, what, expected, spelled(thing), hint))


def require_list(call: str, what: str, values: Iterable[Value]) -> list[Value]:
    """Return the items of a list, a tuple, a range or an array as a list.

    Raises:
        SettingError: If the value is something else, such as a string.
    """
    length = getattr(values, "shape", (1,)) != () and hasattr(values, "__len__")
    if not length or isinstance(values, (type, str, bytes, Mapping)):
        raise SettingError(mismatch(call, what, "a list", spelled(values)))
    return list(values)


def require_path(call: str, what: str, path: str | os.PathLike[str]) -> Path:
    """Return the path of a file or a folder.

    Raises:
        SettingError: If the value is no path, or no file system can hold it.
    """
    try:
        if isinstance(path, (str, os.PathLike)) and b"\0" not in os.fsencode(path):
            return Path(path)
    except ValueError:  # Characters that no file system has.
        pass
    raise SettingError(mismatch(call, what, "a path", spelled(path)))


def require_stream(call: str, stream: Iterable[Value]) -> Iterator[Value]:
    """Return an iterator over a stream.

    Raises:
        StreamError: If the stream is not iterable.
    """
    sequence = hasattr(stream, "__iter__") or hasattr(stream, "__getitem__")
    if not sequence or isinstance(stream, (type, str, bytes)) or getattr(stream, "shape", 1) == ():
        expected = "an iterable of items (an iterator, a list, or an array with one item a row)"
        raise StreamError(mismatch(call, "stream", expected, spelled(stream)))
    return iter(stream)


def require_dynamics(call: str, dynamics: object) -> None:
    """Check that an object is a `uoro.Dynamics` and not, say, the bare transition.

    Raises:
        SettingError: If a method is missing.
    """
    require_methods(
        call,
        "dynamics",
        dynamics,
        ("forward", "jvp", "vjp"),
        "a uoro.Dynamics",
        "Build one from a transition: load_backend(name).dynamics(transition).",
    )


def require_optimizer(call: str, optimizer: Any) -> Optimizer:
    """Return a `uoro.Optimizer`; one that takes the parameters before the gradient is adapted.

    Raises:
        SettingError: If a method is missing.
    """
    require_methods(
        call,
        "optimizer",
        optimizer,
        ("init", "update"),
        "a uoro.Optimizer, such as SGD(1e-2)",
        "Wrap a framework's optimizer in a TorchOptimizer or an OptaxOptimizer.",
    )
    return in_present_order(optimizer, stacklevel=4)


def leaf_name(name: str) -> str:
    """Return the name of a leaf for an error; the one leaf of a bare array has no name."""
    return f"leaf '{name}'" if name else "the array"


def shape_of(leaf: Any) -> tuple[int, ...] | None:
    """Return the shape of a leaf; ``None`` if the leaf is no array."""
    shape = getattr(leaf, "shape", None)
    return tuple(shape) if isinstance(shape, (tuple, list)) else None


def require_item(call: str, inputs: object, found: str) -> None:
    """Check that an item of the stream is given, where something is found at it.

    Args:
        call: The call.
        inputs: What is given.
        found: What is found, a noun phrase.

    Raises:
        SettingError: If there is none.
    """
    if inputs is None:
        raise SettingError(
            f"{call}(inputs=None): expected an item of the stream, to find {found}, got None. Pass "
            "inputs=item."
        )


def is_loss(output: Any) -> bool:
    """Return whether an output is a loss: one scalar array, and no tree."""
    return shape_of(output) == ()


def require_arrays(backend: Backend, tree: Any, call: str) -> None:
    """Check that every leaf of a tree is an array of the backend.

    Args:
        backend: The backend.
        tree: The tree.
        call: The call, as the user wrote it.

    Raises:
        StructureError: If a leaf is not.
    """
    hint = "Build arrays with backend.from_host(...)."
    try:
        for name, leaf in backend.named_leaves(tree):
            if shape_of(leaf) is None:
                place, got = leaf_name(name), spelled(leaf)
                raise StructureError(mismatch(call, place, "an array of the framework", got, hint))
        backend.zeros(tree)
    except (TypeError, AttributeError, RuntimeError, DeprecationWarning) as error:
        expected = "a tree of arrays of the framework"
        raise StructureError(mismatch(call, "", expected, spelled(tree), hint)) from error


def require_model(call: str, dynamics: Any, params: Any, state: Any) -> None:
    """Check the model that an estimator starts on: dynamics, and two trees of arrays.

    Args:
        call: Name of the method, such as ``"UORO.init"``.
        dynamics: Expected to be a `uoro.dynamics.Dynamics`.
        params: Expected to be a tree of arrays of its backend.
        state: Expected to be another.

    Raises:
        SettingError: If ``dynamics`` is not a `Dynamics`.
        StructureError: If a leaf of ``params`` or ``state`` is not an array.
    """
    require_dynamics(f"{call}(dynamics, …)", dynamics)
    for what, tree in (("params", params), ("state", state)):
        require_arrays(dynamics.backend, tree, f"{call}({what}=...)")


def require_carry(call: str, carry: object, kind: type) -> None:
    """Check that a carry is one that the estimator returned.

    Raises:
        StructureError: If ``carry`` is not an instance of ``kind``.
    """
    if not isinstance(carry, kind):
        expected = f"the {kind.__name__} of init(dynamics, params, state, ...), or of a step"
        hint = "Make it by init, and pass on what step returns."
        raise StructureError(mismatch(f"{call}(carry=...)", "", expected, spelled(carry), hint))


def require_like(
    backend: Backend,
    got: Any,
    expected: Any,
    *,
    call: str,
    batch: tuple[int, ...] = (),
    tangent: bool = False,
    hint: str,
) -> None:
    """Check that a tree has the structure, shapes and dtypes of another.

    Args:
        backend: The backend of both trees.
        got: The tree to check.
        expected: The tree it must resemble.
        call: The call, as the user wrote it.
        batch: Leading axes that ``got`` has in addition.
        tangent: Whether ``got`` must be shaped like a tangent of ``expected``.
        hint: A sentence with the way out.

    Raises:
        StructureError: If the trees differ; the error names the leaf.
    """

    def refuse(place: str, expected: str, got: str) -> StructureError:
        return StructureError(mismatch(call, place, expected, got, hint))

    if isinstance(expected, (tuple, list, dict)) and type(got) is not type(expected):
        raise refuse("", f"a {type(expected).__name__}", f"a {type(got).__name__}")
    mine, theirs = backend.named_leaves(got), backend.named_leaves(expected)
    if tangent:
        theirs = [(name, leaf) for name, leaf in theirs if backend.parts(leaf)]
    names = [[name for name, _ in leaves] for leaves in (theirs, mine)]
    if names[0] != names[1]:
        raise refuse("", f"the leaves {names[0]}", str(names[1]))
    for (name, leaf), (_, model) in zip(mine, theirs, strict=True):
        shape = shape_of(leaf)
        if shape is None:
            raise refuse(leaf_name(name), "an array", spelled(leaf))
        full = batch + tuple(model.shape)
        if shape != full:
            raise refuse(leaf_name(name), f"shape {full}", str(shape))
        if leaf.dtype != model.dtype:
            raise refuse(leaf_name(name), f"dtype {model.dtype}", str(leaf.dtype))


def require_stack(backend: Backend, tree: Any, count: int, call: str) -> None:
    """Check that every leaf of a tree has one row per stream.

    Args:
        backend: The backend of the tree.
        tree: The stack.
        count: The number of streams.
        call: The call, as the user wrote it.

    Raises:
        StructureError: If a leaf has another leading axis; the error names the leaf.
    """
    for name, leaf in backend.named_leaves(tree):
        require_length(leaf, count, call, leaf_name(name), "Stack one row per stream.")


def require_length(leaf: Any, length: int, call: str, place: str, hint: str) -> None:
    """Check the length of the leading axis of an array.

    Raises:
        StructureError: If the length is another, or the leaf no array.
    """
    shape = shape_of(leaf)
    if not shape or shape[0] != length:
        got = spelled(leaf) if shape is None else f"shape {shape}"
        expected = f"a leading axis of {length}"
        raise StructureError(mismatch(call, place, expected, got, hint))
