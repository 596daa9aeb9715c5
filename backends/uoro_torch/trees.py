"""The differentiable leaves of a tree, and their coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor


def coordinates_of(leaf: Any) -> int:
    """Return the coordinates of an entry: 1 if real, 2 if complex, 0 if not differentiable."""
    if not isinstance(leaf, Tensor):
        return 0
    return 2 if leaf.is_complex() else int(leaf.is_floating_point())


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function leaf by leaf, in the order in which leaves are listed.

    `optree.tree_map` follows another order under `torch.compile`, which breaks functions that
    count their calls.
    """
    leaves, structure = optree.tree_flatten(tree)
    rest = [structure.flatten_up_to(other) for other in others]
    return structure.unflatten([function(*each) for each in zip(leaves, *rest, strict=True)])


def differentiable(tree: Any) -> Any:
    """Return a tree with ``None`` in the place of the leaves without coordinates."""
    if isinstance(tree, Tensor):
        return tree if coordinates_of(tree) else None
    return optree.tree_map(lambda leaf: leaf if coordinates_of(leaf) else None, tree)


def differentiable_leaves(tree: Any) -> list[Tensor]:
    """Return the leaves that have coordinates."""
    return [leaf for leaf in optree.tree_leaves(tree) if coordinates_of(leaf)]


def join(tree: Any, leaves: Any) -> Any:
    """Return a tree with leaves in the places of its own that have coordinates."""
    moved = iter(leaves)
    return map_leaves(lambda leaf: next(moved) if coordinates_of(leaf) else leaf, tree)


def detach(tree: Any) -> Any:
    """Return a tree with every tensor off its graph."""
    if isinstance(tree, Tensor):
        return tree.detach()
    return optree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def copied(tree: Any) -> Any:
    """Return a tree with every tensor copied."""
    return optree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, tree)


def requires_grad(leaf: Any) -> bool:
    """Return whether a leaf is a tensor that requires a gradient."""
    return isinstance(leaf, Tensor) and leaf.requires_grad


def dense(leaf: Tensor) -> Tensor:
    """Return a leaf as a dense tensor."""
    return leaf.to_dense() if leaf.is_sparse else leaf


def widen(leaf: Tensor) -> Tensor:
    """Return a leaf in at least float32, for sums."""
    return leaf.float() if leaf.dtype in (torch.float16, torch.bfloat16) else leaf


def as_real(leaf: Tensor) -> Tensor:
    """Return the coordinates of a leaf as real numbers, a view."""
    return torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf
