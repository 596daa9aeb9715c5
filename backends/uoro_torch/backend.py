"""The vector algebra, loops and random draws of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import optree
import torch
from torch import Tensor

from uoro.algebra import DTYPES, eager_scan
from uoro.arguments import require_choice, require_seed
from uoro.backend import Distribution
from uoro.derivatives.routes import Routed
from uoro.errors import SettingError, StructureError, spelled
from uoro_torch.compiling import CompiledStep
from uoro_torch.draws import draw
from uoro_torch.dynamics import TorchDynamics
from uoro_torch.lists import add_up, careful_norm, one_wide_dtype, quick_norms
from uoro_torch.probing import autocast_unit, routed
from uoro_torch.tracing import mapping, traced
from uoro_torch.trees import as_real, coordinates_of, differentiable, map_leaves, widen

WRONG = (TypeError, ValueError, OverflowError)
"""Errors of PyTorch and NumPy for an argument of the wrong kind."""


class TorchBackend:
    """Tensors on one device, in trees of optree.

    Args:
        device: Device, as `torch.device` spells it: ``"cpu"``, ``"cuda:0"``.

    Raises:
        SettingError: If PyTorch cannot use the device.
    """

    name = "torch"
    compiled = False
    xp = torch
    lacks: Mapping[str, str] = MappingProxyType({})

    def __init__(self, *, device: str = "cpu") -> None:
        try:
            self._device = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError, NotImplementedError, *WRONG) as error:
            raise SettingError(
                f"TorchBackend(device=...): expected a device that PyTorch can use here, got "
                f"{spelled(device)}. {error}"
            ) from error
        self.device = str(self._device)

    def dynamics(
        self, transition: Callable[..., Any], *, has_aux: bool = False, check: bool = True
    ) -> Routed:
        """Build `Dynamics` of a function over trees of tensors, in the modes of `routed`."""
        make = partial(TorchDynamics, self, transition, has_aux)
        return routed(make, self._device, check=check)

    def named_leaves(self, tree: Any) -> list[tuple[str, Any]]:
        """Return the leaves with their paths."""
        if isinstance(tree, Tensor):
            return [("", tree)]
        paths, leaves, _ = optree.tree_flatten_with_path(tree)
        return [("/".join(map(str, path)), leaf) for path, leaf in zip(paths, leaves, strict=True)]

    def parts(self, leaf: Any) -> int:
        """Return the number of coordinates of an entry."""
        return coordinates_of(leaf)

    def map(self, function: Callable[..., Any], tree: Any, *others: Any) -> Any:
        """Apply a function leaf by leaf, in the dtypes of the first tree."""
        try:
            with torch.no_grad():
                return map_leaves(
                    lambda leaf, *rest: function(leaf, *rest).to(leaf.dtype), tree, *others
                )
        except ValueError as error:
            raise StructureError(f"backend.map(function, *trees): {error}") from error

    def zeros(self, like: Any, *, batch: tuple[int, ...] = ()) -> Any:
        """Return the zero tangent, of shapes ``batch + leaf.shape``."""
        return optree.tree_map(
            lambda leaf: torch.zeros(batch + leaf.shape, dtype=leaf.dtype, device=leaf.device),
            differentiable(like),
        )

    def combine(self, *terms: tuple[Any, Any]) -> Any:
        """Return the sum of ``scalar * tree``, all leaves at once if they have one wide dtype."""
        scalars = [scalar for scalar, _ in terms]
        if not traced():
            flat = [optree.tree_flatten(tree) for _, tree in terms]
            structure = flat[0][1]
            alike = all(spec == structure for _, spec in flat)
            if alike and one_wide_dtype([leaf for leaves, _ in flat for leaf in leaves]):
                with torch.no_grad():
                    return optree.tree_unflatten(
                        structure, add_up(scalars, [each for each, _ in flat])
                    )

        def times(scalar: Any, leaf: Tensor) -> Tensor:
            wide = widen(leaf)
            if isinstance(scalar, Tensor):  # A compiler would widen every entry to a wider scalar.
                scalar = scalar.to((wide.real if wide.is_complex() else wide).dtype)
            scaled: Tensor = scalar * wide
            return scaled

        def add(*leaves: Tensor) -> Tensor:
            total = times(scalars[0], leaves[0])
            for scalar, leaf in zip(scalars[1:], leaves[1:], strict=True):
                total = total + times(scalar, leaf)
            return total

        return self.map(add, *(tree for _, tree in terms))

    def matmul(self, weights: Any, matrix: Any) -> Any:
        """Multiply in the wider dtype; PyTorch does not promote matrices."""
        dtype = torch.promote_types(widen(weights).dtype, widen(matrix).dtype)
        return weights.to(dtype) @ matrix.to(dtype)

    @torch.no_grad()
    def inner(self, x: Any, y: Any) -> Any:
        """Return the sum of products, in at least float32."""
        pairs = zip(optree.tree_leaves(x), optree.tree_leaves(y), strict=True)
        products = [_product(widen(a), widen(b)).sum() for a, b in pairs]
        return sum(products[1:], products[0]) if products else torch.zeros((), device=self.device)

    @torch.no_grad()
    def with_norms(self, make: Callable[[], tuple[Any, ...]]) -> tuple[tuple[Any, ...], Any]:
        """Return trees and their norms; on a CPU the norms are Python's own numbers."""
        trees = make()
        each = [[as_real(leaf) for leaf in optree.tree_leaves(x)] for x in trees]
        if self._device.type == "cpu" and not traced():
            found = quick_norms(each)
            if found is not None:
                return trees, found
        return trees, [careful_norm(leaves, self._device, traced()) for leaves in each]

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Map by `torch.func.vmap`, for any tree of arguments and results."""

        def mapped(*stacks: Any) -> Any:
            everything: Any = stacks
            leaves, structure = optree.tree_flatten(everything)
            results: list[Any] = []

            def flat(*leaves: Tensor) -> tuple[Tensor, ...]:
                result = function(*optree.tree_unflatten(structure, leaves))
                outputs, result_structure = optree.tree_flatten(result)
                results.append(result_structure)
                return tuple(outputs)

            if (
                torch.compiler.is_compiling()
            ):  # A compiler can set no context variable, and needs none.
                outputs = torch.func.vmap(flat)(*leaves)
                return optree.tree_unflatten(results[0], outputs)
            with mapping():
                outputs = torch.func.vmap(flat)(*leaves)
            return optree.tree_unflatten(results[0], outputs)

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
        leaves, structure = optree.tree_flatten(items)
        rows = zip(*(leaf.unbind(0) for leaf in leaves), strict=True)
        entries = [optree.tree_unflatten(structure, row) for row in rows]
        return eager_scan(self, body, carry, entries, reverse=reverse, bounds=bounds)

    def compile(self, function: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
        """Return the function as it is: PyTorch runs eagerly."""
        return function

    def compile_step(
        self, function: Callable[..., Any], *, donate: bool = False
    ) -> Callable[..., Any]:
        """Return one step compiled by `torch.compile`, as a `CompiledStep`."""
        return CompiledStep(function, self._device, donate=donate)

    def key(self, seed: int) -> tuple[int, ...]:
        """Return the key of a seed."""
        return (require_seed("TorchBackend.key(seed)", seed),)

    def fold(self, key: tuple[int, ...], number: int) -> tuple[int, ...]:
        """Return the key numbered ``number`` under a key."""
        return (*key, number)

    def random(
        self,
        key: tuple[int, ...],
        like: Any,
        distribution: Distribution,
        batch: tuple[int, ...] = (),
        stacked: int = 0,
    ) -> Any:
        """Draw on the device, from a generator seeded by the key."""
        return draw(self._device, key, like, distribution, batch, stacked)

    def coarser_unit(self) -> float:
        """Return the unit of roundoff of autocast, in which modules compute; 0 where it is off."""
        return 0.0 if torch.compiler.is_compiling() else autocast_unit(self._device)

    def in_full(self) -> AbstractContextManager[Any]:
        """Return a context without autocast."""
        on = self.coarser_unit() > 0
        return torch.autocast(self._device.type, enabled=False) if on else nullcontext()

    def from_host(self, tree: Any, *, dtype: str | None = None) -> Any:
        """Return tensors on the device, floating ones in a dtype if one is given."""
        if dtype is not None:
            require_choice("backend.from_host(tree, dtype=...)", "dtype", dtype, DTYPES)

        def convert(leaf: Any) -> Tensor:
            tensor = (
                leaf
                if isinstance(leaf, Tensor)
                else torch.tensor(np.array(leaf), device=self._device)
            )
            target = tensor.dtype
            if dtype is not None and coordinates_of(tensor):
                real = getattr(torch, dtype)
                target = real.to_complex() if target.is_complex else real
            return tensor.to(self._device, target)

        try:
            return optree.tree_map(convert, tree)
        except WRONG as error:
            raise StructureError(
                "backend.from_host(tree): expected numbers, or arrays of numbers, in dicts, tuples "
                f"or lists, got {spelled(tree)}. {error}"
            ) from error

    def collect(self, items: Sequence[Any]) -> Any:
        """Return a stack of trees."""
        try:
            return optree.tree_map(
                lambda *leaves: torch.stack([self.from_host(leaf) for leaf in leaves]), *items
            )
        except StructureError:
            raise
        except (RuntimeError, *WRONG) as error:
            raise StructureError(
                "backend.collect(items): expected items of one structure and shape, got others. "
                f"{error}"
            ) from error

    def to_host(self, tree: Any) -> Any:
        """Return the tree with NumPy arrays as leaves."""
        return optree.tree_map(lambda leaf: np.asarray(_storable(leaf.detach().cpu())), tree)

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """Return an empty context: PyTorch has every precision at all times."""
        require_choice("backend.precision(dtype)", "dtype", dtype, DTYPES)
        return nullcontext()


def _storable(leaf: Tensor) -> Tensor:
    return leaf.float() if leaf.dtype is torch.bfloat16 else leaf  # NumPy has no bfloat16


def _product(a: Tensor, b: Tensor) -> Tensor:
    return (a.conj() * b).real if a.is_complex() or b.is_complex() else a * b
