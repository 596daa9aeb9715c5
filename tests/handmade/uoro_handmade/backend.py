"""The vector algebra, loops and random draws of plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any

import numpy as np

from uoro.algebra import eager_scan
from uoro.backend import Distribution
from uoro.errors import SettingError
from uoro.learning.host_noise import draw_leaves
from uoro_handmade.dynamics import HandmadeDynamics
from uoro_handmade.trees import fill, leaves, map_leaves, named_leaves, stack, unstack


class HandmadeBackend:
    """NumPy arrays, and derivatives that someone worked out on paper.

    Transitions are written in functions of NumPy itself, which is `xp`.

    Args:
        device: Only ``"cpu"``.

    Raises:
        SettingError: If another device is asked for.
    """

    name = "handmade"
    compiled = False
    xp: Any = np
    lacks: Mapping[str, str] = MappingProxyType(
        dict.fromkeys(("integers", "complex"), "its tape knows real numbers alone")
    )

    def __init__(self, *, device: str = "cpu") -> None:
        if device != "cpu":
            raise SettingError(
                f"HandmadeBackend(device={device!r}): its arrays are NumPy's, which live on 'cpu'."
            )
        self.device = device

    def dynamics(
        self, transition: Callable[..., Any], *, has_aux: bool = False, check: bool = True
    ) -> HandmadeDynamics:
        """Make `Dynamics` of a transition written in functions of NumPy; there is one route."""
        return HandmadeDynamics(self, transition, has_aux)

    # Trees.

    def named_leaves(self, tree: Any) -> list[tuple[str, Any]]:
        """List the leaves from left to right, dicts in the order of their keys."""
        return named_leaves(tree)

    def parts(self, leaf: Any) -> int:
        """Count the coordinates of an entry: real numbers are all there is."""
        return int(np.issubdtype(leaf.dtype, np.floating))

    def map(self, function: Callable[..., Any], tree: Any, *others: Any) -> Any:
        """Call a function on each leaf, and cast what it gives to the dtype of the first tree's."""

        def apply(leaf: Any, *rest: Any) -> Any:
            return np.asarray(function(leaf, *rest)).astype(leaf.dtype, copy=False)

        return map_leaves(apply, tree, *others)

    def zeros(self, like: Any, *, batch: tuple[int, ...] = ()) -> Any:
        """Make zeros, with axes in front if asked to."""
        return map_leaves(lambda leaf: np.zeros((*batch, *leaf.shape), leaf.dtype), like)

    def combine(self, *terms: tuple[Any, Any]) -> Any:
        """Add up the products in float64, and cast the sum."""
        scalars = [scalar for scalar, _ in terms]

        def add(*each: Any) -> Any:
            return sum(scalar * _wide(leaf) for scalar, leaf in zip(scalars, each, strict=True))

        return self.map(add, *(tree for _, tree in terms))

    def matmul(self, weights: Any, matrix: Any) -> Any:
        """Multiply as NumPy does, which takes the wider dtype."""
        return weights @ matrix

    def inner(self, x: Any, y: Any) -> Any:
        """Sum the products of all coordinates in float64."""
        products = map_leaves(
            lambda a, b: np.vdot(_wide(a), _wide(b)), x, y, call="backend.inner(x, y)"
        )
        return np.float64(sum(leaves(products)))

    def with_norms(self, make: Callable[[], tuple[Any, ...]]) -> tuple[tuple[Any, ...], Any]:
        """Build trees and compute their norms."""
        trees = make()
        return trees, [_norm(x) for x in trees]

    # Loops.

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Call the function on one entry of the stacks after the other."""

        def mapped(*stacks: Any) -> Any:
            call = "backend.vmap(function)(*stacks)"
            return stack([function(*entry) for entry in unstack(stacks, call)], call)

        return mapped

    def scan(
        self,
        body: Callable[[Any, Any], tuple[Any, Any]],
        carry: Any,
        items: Any,
        *,
        reverse: bool = False,
        bounds: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]:
        """Go along the items in Python, from the last to the first if asked to."""
        entries = unstack(items, "backend.scan(body, carry, items)")
        return eager_scan(self, body, carry, entries, reverse=reverse, bounds=bounds)

    def compile(self, function: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
        """Give the function back: there is no compiler."""
        return function

    # Randomness: a key is a tuple, the seed and then each number it was folded with.

    def key(self, seed: int) -> tuple[int, ...]:
        """Make the key of a seed."""
        return (int(seed),)

    def fold(self, key: tuple[int, ...], number: Any) -> tuple[int, ...]:
        """Append a number to a key."""
        return (*key, int(number))

    def random(
        self,
        key: tuple[int, ...],
        like: Any,
        distribution: Distribution,
        batch: tuple[int, ...] = (),
        stacked: int = 0,
    ) -> Any:
        """Draw from a generator of NumPy's that the key seeds."""
        seed, *path = (number % 2**64 for number in key)
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))
        return fill(like, draw_leaves(generator, distribution, leaves(like), batch, stacked))

    # The border.

    def from_host(self, tree: Any, *, dtype: str | None = None) -> Any:
        """Make arrays of numbers; cast those that are floating if asked to."""

        def convert(leaf: Any) -> Any:
            array = np.asarray(leaf)
            return array.astype(dtype, copy=False) if dtype and array.dtype.kind == "f" else array

        return map_leaves(convert, tree)

    def collect(self, items: Sequence[Any]) -> Any:
        """Lay trees on each other; numbers become arrays in passing."""
        return stack(items, "backend.collect(items)")

    def to_host(self, tree: Any) -> Any:
        """Give the arrays themselves, which are NumPy's."""
        return map_leaves(np.asarray, tree)

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """Do nothing: NumPy makes arrays of any dtype at any time."""
        return nullcontext()


def _norm(tree: Any) -> Any:
    """Compute the norm in float64, of numbers scaled by a power of two to below 1.

    Scaling by a power of two rounds nothing, and neither the squares nor the sum leave the range.
    """
    wide = [_wide(leaf) for leaf in leaves(tree)]
    largest = float(np.max([np.abs(leaf).max(initial=0.0) for leaf in wide], initial=0.0))
    if not 0.0 < largest < math.inf:
        return np.float64(largest)
    _, exponent = math.frexp(largest)
    scaled = [np.ldexp(leaf, -exponent) for leaf in wide]
    return np.ldexp(np.sqrt(sum(np.vdot(leaf, leaf) for leaf in scaled)), exponent)


def _wide(leaf: Any) -> Any:
    return leaf.astype(np.float64, copy=False)
