"""Which leaves of a tree move, and how their coordinates lie in one row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import autograd.numpy
import numpy as np
import optree

anp: Any = autograd.numpy  # it makes its functions at run time, unseen by type checkers


def coordinates_of(leaf: Any) -> int:
    """Count the coordinates of an entry: 1 if real, 2 if complex, 0 if not differentiable."""
    kind = np.asarray(leaf).dtype.kind
    return {"f": 1, "c": 2}.get(kind, 0)


def moving(tree: Any) -> Any:
    """Return the tree with ``None`` for leaves that are not differentiable."""
    return optree.tree_map(lambda leaf: leaf if coordinates_of(leaf) else None, tree)


def flatten(leaves: Sequence[Any], likes: Sequence[Any]) -> Any:
    """Return the coordinates of leaves in one row, differentiably.

    Args:
        leaves: Arrays, on a tape or not.
        likes: Arrays with the dtypes of the leaves.
    """
    parts = []
    for leaf, like in zip(leaves, likes, strict=True):
        row = anp.reshape(leaf, (-1,))
        parts += [anp.real(row), anp.imag(row)] if coordinates_of(like) == 2 else [row]
    return anp.concatenate(parts) if parts else anp.zeros(0)


def unflatten(row: Any, likes: Sequence[Any], batch: tuple[int, ...] = ()) -> list[Any]:
    """Undo `flatten` for leaves like ``likes``, whose axes follow those of ``batch``."""
    leaves, start = [], 0
    for like in likes:
        count, pieces = math.prod(like.shape), []
        for _ in range(coordinates_of(like)):
            pieces.append(row[..., start : start + count].reshape((*batch, *like.shape)))
            start += count
        leaf = pieces[0] if len(pieces) == 1 else pieces[0] + 1j * pieces[1]
        leaves.append(leaf.astype(like.dtype) if isinstance(leaf, np.ndarray) else leaf)
    return leaves
