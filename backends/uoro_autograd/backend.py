"""The vector algebra, loops and random draws of NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any

import autograd.numpy as anp
import numpy as np
import optree

from uoro.algebra import DTYPES, eager_scan
from uoro.arguments import require_choice, require_seed
from uoro.backend import Distribution
from uoro.derivatives.choosing import Route, Seen
from uoro.derivatives.differenced import by_differences
from uoro.derivatives.routes import Routed
from uoro.errors import SettingError, StructureError, spelled
from uoro.learning.host_noise import NOISE, draw_leaves, numpy_random_state_kept
from uoro_autograd.dynamics import AutogradDynamics
from uoro_autograd.trees import coordinates_of, moving


class AutogradBackend:
    """NumPy arrays, differentiated by autograd; trees are those of optree.

    Args:
        device: Only ``"cpu"``.

    Raises:
        SettingError: If another device is asked for.
    """

    name = "autograd"
    compiled = False
    loops = True
    xp = anp
    lacks: Mapping[str, str] = MappingProxyType({"bfloat16": "NumPy has no such dtype."})

    def __init__(self, *, device: str = "cpu") -> None:
        if not isinstance(device, str) or device != "cpu":
            raise SettingError(
                f"AutogradBackend(device=...): expected 'cpu', got {spelled(device)}. "
                "For an accelerator use the backend 'jax' or 'torch'."
            )
        self.device = device

    def dynamics(
        self, transition: Callable[..., Any], *, has_aux: bool = False, check: bool = True
    ) -> Routed:
        """Return `Dynamics` of a transition written in autograd.numpy.

        Autodiff modes: forward mode; the VJP of the VJP, for operations without a JVP; central
        differences.
        """
        forward = AutogradDynamics(self, transition, has_aux)
        routes = (
            Route("forward mode", forward),
            Route("double vjp", AutogradDynamics(self, transition, has_aux, twice=True)),
            by_differences(forward),
        )
        return Routed(routes, check=check, observe=_observe)

    def named_leaves(self, tree: Any) -> list[tuple[str, Any]]:
        """List the leaves with their paths."""
        paths, leaves, _ = optree.tree_flatten_with_path(tree)
        return [("/".join(map(str, path)), leaf) for path, leaf in zip(paths, leaves, strict=True)]

    def parts(self, leaf: Any) -> int:
        """Count the coordinates of an entry."""
        return coordinates_of(leaf)

    def map(self, function: Callable[..., Any], tree: Any, *others: Any) -> Any:
        """Apply a function leaf by leaf, keeping the dtypes of the first tree."""

        def apply(leaf: Any, *rest: Any) -> Any:
            return np.asarray(function(leaf, *rest)).astype(leaf.dtype, copy=False)

        try:
            return optree.tree_map(apply, tree, *others)
        except ValueError as error:
            raise StructureError(f"backend.map(function, *trees): {error}") from error

    def zeros(self, like: Any, *, batch: tuple[int, ...] = ()) -> Any:
        """Return the zero tangent, with leaves of shape ``batch + leaf.shape``."""
        return optree.tree_map(lambda leaf: np.zeros(batch + leaf.shape, leaf.dtype), moving(like))

    def combine(self, *terms: tuple[Any, Any]) -> Any:
        """Add up ``scalar * tree``."""
        scalars = [scalar for scalar, _ in terms]

        def add(*leaves: Any) -> Any:
            total = scalars[0] * leaves[0]
            for scalar, leaf in zip(scalars[1:], leaves[1:], strict=True):
                total = total + scalar * leaf
            return total

        return self.map(add, *(tree for _, tree in terms))

    def matmul(self, weights: Any, matrix: Any) -> Any:
        """Multiply; NumPy promotes."""
        return weights @ matrix

    def inner(self, x: Any, y: Any) -> Any:
        """Sum of products, in float64."""
        pairs = zip(optree.tree_leaves(x), optree.tree_leaves(y), strict=True)
        return sum((np.vdot(_wide(a), b).real for a, b in pairs), np.float64(0))

    def with_norms(self, make: Callable[[], tuple[Any, ...]]) -> tuple[tuple[Any, ...], Any]:
        """Build trees and compute their norms, in float64."""
        trees = make()
        return trees, [_norm(x) for x in trees]

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Map by a plain loop."""

        def mapped(*stacks: Any) -> Any:
            return self.collect([function(*entry) for entry in _entries(stacks)])

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
        """Loop in Python."""
        return eager_scan(self, body, carry, _entries(items), reverse=reverse, bounds=bounds)

    def compile(self, function: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
        """Leave the function as it is."""
        return function

    def key(self, seed: int) -> np.random.SeedSequence:
        """Return the key of a seed."""
        seed = require_seed("AutogradBackend.key(seed)", seed)
        # Apart from the seeds that a stream of data may be made of.
        return np.random.SeedSequence(seed, spawn_key=(NOISE, NOISE))

    def fold(self, key: np.random.SeedSequence, number: int) -> np.random.SeedSequence:
        """Derive the key numbered ``number``."""
        return np.random.SeedSequence(key.entropy, spawn_key=(*key.spawn_key, number))

    def random(
        self,
        key: np.random.SeedSequence,
        like: Any,
        distribution: Distribution,
        batch: tuple[int, ...] = (),
        stacked: int = 0,
    ) -> Any:
        """Draw with Philox, seeded by the key."""
        leaves, structure = optree.tree_flatten(moving(like))
        generator = np.random.Generator(np.random.Philox(key))
        return optree.tree_unflatten(
            structure, draw_leaves(generator, distribution, leaves, batch, stacked)
        )

    def from_host(self, tree: Any, *, dtype: str | None = None) -> Any:
        """Turn numbers into arrays; cast floating leaves if asked to."""
        if dtype is not None:
            require_choice("backend.from_host(tree, dtype=...)", "dtype", dtype, DTYPES)

        def convert(leaf: Any) -> Any:
            array = np.asarray(leaf)
            if array.dtype.kind not in "biufc":
                raise TypeError(f"of {array.dtype} nothing can be made.")
            if dtype is None or not coordinates_of(array):
                return array
            wanted = np.result_type(dtype, np.complex64 if np.iscomplexobj(array) else dtype)
            return array.astype(wanted, copy=False)

        try:
            return optree.tree_map(convert, tree)
        except (TypeError, ValueError, RuntimeError) as error:
            raise StructureError(
                f"backend.from_host({spelled(tree)}): {error} Expected numbers or arrays of "
                "numbers in dicts, tuples or lists."
            ) from error

    def collect(self, items: Sequence[Any]) -> Any:
        """Stack trees."""
        try:
            stack = optree.tree_map(lambda *leaves: np.stack(leaves), *items)
        except (TypeError, ValueError, RuntimeError) as error:
            raise StructureError(
                f"backend.collect(items): they have not all one structure and shape: {error}"
            ) from error
        return self.from_host(stack)

    def to_host(self, tree: Any) -> Any:
        """They are NumPy arrays already."""
        return optree.tree_map(np.asarray, tree)

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """NumPy has every precision at all times."""
        require_choice("backend.precision(dtype)", "dtype", dtype, DTYPES)
        return nullcontext()


@contextmanager
def _observe() -> Iterator[Seen]:
    with numpy_random_state_kept():
        yield Seen([])


def _norm(tree: Any) -> Any:
    """Compute the norm, scaled by the largest entry where plain squares overflow or underflow."""
    leaves = optree.tree_leaves(tree)
    with np.errstate(over="ignore", under="ignore"):
        square = sum((np.vdot(_wide(a), a).real for a in leaves), np.float64(0))
    if np.finfo(np.float64).tiny < square < np.inf or not leaves:
        return np.sqrt(square)
    largest = max(np.abs(a).max(initial=0.0) for a in leaves)
    if not 0 < largest < np.inf:
        return np.float64(largest)
    scaled = [_wide(a) / largest for a in leaves]
    return np.sqrt(sum(np.vdot(a, a).real for a in scaled)) * largest


def _wide(array: Any) -> Any:
    return array.astype(np.result_type(array.dtype, np.float64), copy=False)


def _entries(stack: Any) -> list[Any]:
    """Return the entries of a stack."""
    leaves, structure = optree.tree_flatten(stack)
    return [optree.tree_unflatten(structure, entry) for entry in zip(*leaves, strict=True)]
