"""What is found out about a model once, and kept for its shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from uoro.derivatives.routes import at_numbers
from uoro.dynamics import Dynamics

Found = TypeVar("Found")


def found_once(find: Callable[..., Found]) -> Callable[..., Found]:
    """Return a function ``find(dynamics, params, state, inputs)`` that runs once for each model.

    While a compiler or a map traces, the function is given random numbers of the same shapes.
    """
    kept: WeakKeyDictionary[Any, dict[Any, Found]] = WeakKeyDictionary()

    @wraps(find)
    def look(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any) -> Found:
        known = kept.setdefault(dynamics, {})
        shapes = tuple(
            (name, tuple(getattr(leaf, "shape", ())), str(getattr(leaf, "dtype", "")))
            for tree in (params, state, inputs)
            for name, leaf in dynamics.backend.named_leaves(tree)
        )
        if shapes not in known:
            with at_numbers(dynamics, (params, state, inputs)) as point:
                known[shapes] = find(dynamics, *point)
        return known[shapes]

    return look
