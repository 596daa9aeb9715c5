"""Opaque functions, which `torch.func.vmap` calls with their batch axis instead of mapping them."""

from __future__ import annotations

from copy import copy
from typing import Any, NamedTuple, Protocol

import optree
import torch
from torch import Tensor


class Axes(NamedTuple):
    """The axes that trees have in front, ``None`` for one that they do not have.

    Attributes:
        several: Number of entries of ``extra`` for one entry of ``streamed``; the first axis.
        rows: Number of rows of ``streamed`` and ``extra``.
    """

    several: int | None
    rows: int | None


class Native(Protocol):
    """A function of three trees of tensors that may run a whole batch at once.

    The first tree returned has all axes in front, the second has none.
    """

    def __call__(  # noqa: D102
        self, axes: Axes, shared: Any, streamed: Any, extra: Any, /
    ) -> tuple[Any, Any]: ...


def call(native: Native, shared: Any, streamed: Any, extra: Any, *, rows: bool) -> tuple[Any, Any]:
    """Run a native function, under any number of `torch.func.vmap` or none.

    Args:
        native: Function to run. It always gets plain tensors.
        shared: Tree that all rows have in common.
        streamed: Tree; where it is mapped, ``native`` runs once, on all rows.
        extra: Tree; where it alone is mapped, ``native`` runs once, with several entries.
        rows: Whether ``native`` takes rows at all; if not, it runs once for each of them.
    """
    if not _mapping():
        return native(Axes(None, None), shared, streamed, extra)
    trees: Any = (shared, streamed, extra)
    leaves, structure = optree.tree_flatten(trees)
    job = _Job(native, structure, len(optree.tree_leaves(shared)), streamed, rows)
    flat = _apply(job, *leaves)
    result: Any = optree.tree_unflatten(job.results, flat)
    returned, common = result
    return returned, common


class _Job:
    """The argument of `_Opaque` that is no tensor: a native function, and its leaves."""

    def __init__(
        self, native: Native, structure: Any, shared: int, streamed: Any, rows: bool
    ) -> None:
        self._native = native
        self._structure = structure
        self._rows = rows
        self._shared = shared
        self._streamed = range(shared, shared + len(optree.tree_leaves(streamed)))
        self._several: int | None = None
        self.results: Any = None

    def takes_rows(self, mapped: list[bool], leaves: Any) -> bool:
        """Return whether the native function can take the axis that is being mapped as rows."""
        within = any(_is_batched(leaf) for leaf in leaves)
        return (
            self._rows
            and not within
            and any(mapped[i] for i in self._streamed)
            and not any(mapped[: self._shared])
        )

    def takes_several(self, mapped: list[bool]) -> bool:
        """Return whether the axis that is being mapped is one of the extra tree alone."""
        return self._several is None and not any(mapped[: self._streamed.stop])

    def with_several(self, count: int) -> _Job:
        """Return the same job, whose extra tree has an axis of several entries in front."""
        job = copy(self)
        job._several = count
        return job

    def filled(
        self, leaves: list[Tensor], mapped: list[bool], count: int, first: int
    ) -> list[Tensor]:
        """Repeat the leaves that are not mapped, from the first that has the axis."""
        return [
            leaf if mapped[i] or i < first else leaf.expand(count, *leaf.shape)
            for i, leaf in enumerate(leaves)
        ]

    def run_rows(self, leaves: list[Tensor], mapped: list[bool], count: int) -> Any:
        """Run the native function on all rows; the axis of rows comes first, in and out."""
        leaves = self.filled(leaves, mapped, count, self._shared)
        if self._several is None:
            return self.run(count, leaves)
        extra = self._streamed.stop
        leaves[extra:] = [leaf.movedim(1, 0) for leaf in leaves[extra:]]
        returned, common = self.run(count, leaves)
        return [leaf.movedim(1, 0) for leaf in returned], common

    def run_several(self, leaves: list[Tensor], mapped: list[bool], count: int) -> Any:
        """Run the native function on several entries of the extra tree."""
        job = self.with_several(count)
        flat = _apply(job, *self.filled(leaves, mapped, count, self._streamed.stop))
        self.results = job.results
        split = job.results.children()[0].num_leaves
        return flat[:split], flat[split:]

    def run(self, count: int | None, leaves: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Run the native function."""
        axes = Axes(self._several, count)
        # PyTorch switches forward mode off inside a Function; the native one has its own levels.
        with _forward_mode(True):
            result: Any = self._native(axes, *optree.tree_unflatten(self._structure, leaves))
        self.results = optree.tree_structure(result)
        return optree.tree_leaves(result[0]), optree.tree_leaves(result[1])


_forward_mode: Any = torch.autograd.forward_ad._set_fwd_grad_enabled
_mapping: Any = torch._C._are_functorch_transforms_active
_is_batched: Any = torch._C._functorch.is_batchedtensor  # type: ignore[attr-defined, unused-ignore]  # of C


def _apply(*arguments: Any) -> Any:
    apply: Any = _Opaque.apply
    with torch.no_grad():
        return apply(*arguments)


class _Opaque(torch.autograd.Function):
    """Run a job on plain tensors; nothing is differentiated through it."""

    @staticmethod
    def forward(job: _Job, *leaves: Tensor) -> Any:
        """Run the job on one entry."""
        returned, common = job.run(None, leaves)
        return (*returned, *common)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save nothing."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        """Run the job on all rows at once, or on one after the other."""
        job, *leaves = args
        mapped = [dim is not None for dim in in_dims[1:]]
        front = [
            leaf if dim is None else leaf.movedim(dim, 0)
            for leaf, dim in zip(leaves, in_dims[1:], strict=True)
        ]
        take = None
        if job.takes_several(mapped):
            take = job.run_several
        elif job.takes_rows(mapped, leaves):
            take = job.run_rows
        if take is not None:
            returned, common = take(front, mapped, info.batch_size)
            return (*returned, *common), (0,) * len(returned) + (None,) * len(common)
        each: list[Any] = [
            _apply(job, *(x[i] if m else x for x, m in zip(front, mapped, strict=True)))
            for i in range(info.batch_size)
        ]
        stacked = tuple(torch.stack(column) for column in zip(*each, strict=True))
        return stacked, (0,) * len(stacked)
