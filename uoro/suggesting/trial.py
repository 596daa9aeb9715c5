"""A trial: a stretch of a stream, at fixed params, on which estimators run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from uoro.algebra import gram
from uoro.backend import Backend
from uoro.dynamics import Dynamics

AT_ONCE = 20_000_000
"""Numbers of gradients that are held at once."""


def block_of(count: int, numbers: int, multiple: int = 1, longest: int | None = None) -> int:
    """Return how many of ``count`` items run at a time, so that their gradients can be held.

    Args:
        count: Number of items.
        numbers: Numbers that the gradients of one item have.
        multiple: What the result is a multiple of, as ``count`` is.
        longest: Largest result; default ``count``.
    """
    blocks = [n for n in range(multiple, count + 1, multiple) if not count % n]
    few = [n for n in blocks if n * numbers <= AT_ONCE and n <= (longest or count)]
    return max(few, default=blocks[0])


@dataclass(frozen=True, eq=False)
class Trial:
    """A stretch of a stream, at fixed params.

    Args:
        dynamics: Model.
        params: θ, fixed.
        state: Hidden state before the first item.
        items: Stack of items.
        count: Number of items, a multiple of `block`.
        skip: Number of first items that are left out, as influences start at zero.
        block: Number of items that run at a time.
        seed: Seed of the signs.
    """

    dynamics: Dynamics[Any, Any, Any]
    params: Any
    state: Any
    items: Any
    count: int
    skip: int
    block: int
    seed: int

    @property
    def backend(self) -> Backend:
        """Backend of the dynamics."""
        return self.dynamics.backend

    @cached_property
    def multiply(self) -> Callable[[Any, Any], Any]:
        """Inner products of stacks of gradients, and of the halves of a reference, compiled."""
        return self.backend.compile(partial(_products, self.backend))


def _products(backend: Backend, gradients: Sequence[Any], halves: Sequence[Any]) -> Any:
    """Return the inner products of gradients, or of their errors beside two references."""
    rows = list(gradients)
    if halves:
        one, other = halves
        rows = [backend.combine((1.0, row), (-1.0, one)) for row in rows]
        rows += [backend.combine((1.0, other), (-1.0, one)), one]
    stack = backend.map(lambda *leaves: backend.xp.stack(leaves), *rows)
    return gram(backend, stack, stack)
