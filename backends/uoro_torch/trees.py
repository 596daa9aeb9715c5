"""Which leaves of a tree move, and what their numbers are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor


def coordinates_of(leaf: Any) -> int:
    """Count the coordinates of an entry: 1 if real, 2 if complex, 0 if not differentiable."""
    if not isinstance(leaf, Tensor):
        return 0
    return 2 if leaf.is_complex() else int(leaf.is_floating_point())


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function leaf by leaf, in the order in which leaves are listed.

    That of `optree.tree_map` is another under `torch.compile`, which a function that counts its
    calls would notice.
    """
    leaves, structure = optree.tree_flatten(tree)
    rest = [structure.flatten_up_to(other) for other in others]
    return structure.unflatten([function(*each) for each in zip(leaves, *rest, strict=True)])


def moving(tree: Any) -> Any:
    """Put ``None`` in the place of the leaves without coordinates."""
    return optree.tree_map(lambda leaf: leaf if coordinates_of(leaf) else None, tree)


def moving_leaves(tree: Any) -> list[Tensor]:
    """List the leaves that have coordinates."""
    return [leaf for leaf in optree.tree_leaves(tree) if coordinates_of(leaf)]


def join(tree: Any, leaves: Any) -> Any:
    """Put leaves into the places of those of ``tree`` that have coordinates."""
    moved = iter(leaves)
    return map_leaves(lambda leaf: next(moved) if coordinates_of(leaf) else leaf, tree)


def detach(tree: Any) -> Any:
    """Take every tensor off its graph."""
    return optree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def widen(leaf: Tensor) -> Tensor:
    """Hold a leaf in at least float32, where sums are taken."""
    return leaf.float() if leaf.dtype in (torch.float16, torch.bfloat16) else leaf


def as_real(leaf: Tensor) -> Tensor:
    """View the coordinates of a leaf as real numbers."""
    return torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf
