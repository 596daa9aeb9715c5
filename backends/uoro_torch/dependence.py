"""Whether results depend on a tensor: other numbers in its place, and results compared."""

from __future__ import annotations

import math
from typing import Any

import optree
import torch
from torch import Tensor

FILLS = (math.nan, 1e6, -1e6, 0.5)
"""Numbers to put in the place of a tensor: thresholds hide NaN, and sums do not."""


def filled(leaf: Tensor, fill: float) -> Tensor:
    """Return a tensor filled with a number; integers are increased by one, booleans inverted."""
    if leaf.is_floating_point() or leaf.is_complex():
        return torch.full_like(leaf, fill)
    return ~leaf if leaf.dtype is torch.bool else leaf + 1


def same(one: Any, other: Any) -> bool:
    """Return whether two trees hold the same numbers, NaN among them."""
    mine, structure = optree.tree_flatten(one)
    others, other_structure = optree.tree_flatten(other)
    return structure == other_structure and all(
        a.shape == b.shape and bool(((a == b) | (a != a) & (b != b)).all())
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else a is b or a == b
        for a, b in zip(mine, others, strict=True)
    )
