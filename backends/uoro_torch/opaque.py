"""Opaque functions, which `torch.func.vmap` calls with their batch axis instead of mapping them."""

from __future__ import annotations

from typing import Any, Protocol

import optree
import torch
from torch import Tensor


class Native(Protocol):
    """A function of three trees of tensors that may run a whole batch at once.

    ``count`` is the number of rows that every leaf of ``streamed`` and ``extra`` has in front, or
    ``None`` for one entry without a batch axis. The first tree returned has the batch axis, the
    second does not.
    """

    def __call__(  # noqa: D102
        self, count: int | None, shared: Any, streamed: Any, extra: Any, /
    ) -> tuple[Any, Any]: ...


def call(native: Native, shared: Any, streamed: Any, extra: Any, *, rows: bool) -> tuple[Any, Any]:
    """Run a native function, under any number of `torch.func.vmap` or none.

    Args:
        native: Function to run. It always gets plain tensors.
        shared: Tree that all rows have in common.
        streamed: Tree; where it is mapped, ``native`` runs once, on all rows.
        extra: Tree; where it alone is mapped, ``native`` runs once for each entry.
        rows: Whether ``native`` takes rows at all; if not, it always runs once for each entry.
    """
    if not _mapping():
        return native(None, shared, streamed, extra)
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
        self.results: Any = None

    def takes_rows(self, mapped: list[bool], leaves: Any) -> bool:
        """Return whether the native function can take the axis that is being mapped."""
        within = any(_is_batched(leaf) for leaf in leaves)
        return (
            self._rows
            and not within
            and any(mapped[i] for i in self._streamed)
            and not any(mapped[: self._shared])
        )

    def with_rows(self, leaves: list[Tensor], mapped: list[bool], count: int) -> list[Tensor]:
        """Repeat the leaves that are neither mapped nor shared."""
        return [
            leaf if mapped[i] or i < self._shared else leaf.expand(count, *leaf.shape)
            for i, leaf in enumerate(leaves)
        ]

    def run(self, count: int | None, leaves: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Run the native function."""
        # PyTorch switches forward mode off inside a Function; the native one has its own levels.
        with _forward_mode(True):
            result: Any = self._native(count, *optree.tree_unflatten(self._structure, leaves))
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
        if job.takes_rows(mapped, leaves):
            returned, common = job.run(
                info.batch_size, job.with_rows(front, mapped, info.batch_size)
            )
            return (*returned, *common), (0,) * len(returned) + (None,) * len(common)
        each: list[Any] = [
            _apply(job, *(x[i] if m else x for x, m in zip(front, mapped, strict=True)))
            for i in range(info.batch_size)
        ]
        stacked = tuple(torch.stack(column) for column in zip(*each, strict=True))
        return stacked, (0,) * len(stacked)
