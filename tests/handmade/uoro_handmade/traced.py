"""Arrays that write on a tape what NumPy's operators and functions do with them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from uoro_handmade.rules import FLAT, RULES, Rule, part
from uoro_handmade.tape import Step, Tape


class Traced(NDArrayOperatorsMixin):
    """An array on a tape, as a transition sees it.

    Args:
        tape: The tape.
        step: How it was made.
    """

    def __init__(self, tape: Tape, step: Step) -> None:
        self.tape, self.place, self.value = tape, tape.write(step), step.value

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    T = property(np.transpose)

    def __array_ufunc__(self, ufunc: Any, method: str, *arguments: Any, **options: Any) -> Any:
        # `h += x` names h as the place for the sum. It is not written to: h becomes a new array.
        outs = options.pop("out", ())
        if method != "__call__" or options or not all(isinstance(out, Traced) for out in outs):
            raise TypeError(f"{ufunc}: it takes traced arrays by position, and nothing else.")
        return call(ufunc, arguments, {})

    def __array_function__(
        self, function: Any, types: Any, arguments: Any, options: dict[str, Any]
    ) -> Any:
        return call(function, arguments, options)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "A traced array cannot be made a plain one: its derivative would be lost. Join arrays "
            "with numpy.stack or numpy.concatenate."
        )

    def __getitem__(self, index: Any) -> Any:
        return call(operator.getitem, (self, index), {})

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return f"Traced({self.value!r})"

    def reshape(self, *shape: Any) -> Any:
        """Give the entries another shape, written as one tuple or as several numbers."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def astype(self, dtype: Any) -> Any:
        """Cast."""
        return call(np.ndarray.astype, (self, dtype), {})

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Add up, along all axes or some."""
        return np.sum(self, axis, keepdims=keepdims)

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Average, along all axes or some."""
        return np.mean(self, axis, keepdims=keepdims)

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """Take the largest entry, along all axes or some."""
        return np.max(self, axis, keepdims=keepdims)


def trace(tape: Tape, leaf: Any) -> Any:
    """Put an array on a tape, to differentiate by; one that is not floating stays plain."""
    array = np.asarray(leaf)
    return Traced(tape, Step(array)) if array.dtype.kind == "f" else array


def plain(array: Any) -> Any:
    """Take the value of a traced array; leave anything else as it is."""
    return array.value if isinstance(array, Traced) else array


def derivative(found: Mapping[int, Any], array: Any) -> Any:
    """Pick the derivative of an array, or in it, out of those that a tape has found."""
    here = found.get(array.place) if isinstance(array, Traced) else None
    return np.zeros(array.shape, array.dtype) if here is None else np.array(here)


def call(function: Callable[..., Any], arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Call a function of NumPy on arrays some of which are traced.

    Raises:
        TypeError: If there is no rule for the function, or for one of those arguments.
    """
    if function in FLAT:
        return function(*map(plain, arguments), **options)
    if function in JOINS:
        return JOINS[function](*arguments, **options)
    if function not in RULES:
        known = sorted({each.__name__ for each in (*RULES, *JOINS)})
        raise TypeError(
            f"{function.__name__}(...): traced arrays have no rule for it. Write it in terms of "
            f"{', '.join(known)}."
        )
    return record(function, RULES[function], arguments, options)


def record(
    function: Callable[..., Any],
    rules: Sequence[Rule | None],
    arguments: Sequence[Any],
    options: Mapping[str, Any],
) -> Traced:
    """Call a function on plain values, and write that down with the rules for its arguments."""
    traced = [(number, a) for number, a in enumerate(arguments) if isinstance(a, Traced)]
    tapes = {id(array.tape): array.tape for _, array in traced}
    named = any(isinstance(option, Traced) for option in options.values())
    if named or len(tapes) != 1 or traced[-1][0] >= len(rules):
        raise TypeError(
            f"{function.__name__}(...): at most its first {len(rules)} arguments can be traced "
            "arrays, given by position and all from the same call of the transition."
        )
    (tape,) = tapes.values()
    links = [(a.place, rule) for number, a in traced if (rule := rules[number]) is not None]
    values = [plain(argument) for argument in arguments]
    return Traced(tape, Step(np.asarray(function(*values, **options)), links, values, options))


def concatenate(arrays: Sequence[Any], axis: int = 0) -> Traced:
    """Join arrays along an axis; there are as many rules as arrays."""
    arrays = [array if isinstance(array, Traced) else np.asarray(array) for array in arrays]
    return record(_concatenate, [part(i) for i in range(len(arrays))], arrays, {"axis": axis})


def _concatenate(*arrays: Any, axis: int) -> Any:
    return np.concatenate(arrays, axis)


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Join arrays along a new axis."""
    return np.concatenate([np.expand_dims(array, axis) for array in arrays], axis)


JOINS: dict[Callable[..., Any], Callable[..., Any]] = {np.concatenate: concatenate, np.stack: stack}
"""Functions that take several arrays in one argument."""
