"""Sums and norms of whole lists of tensors, with as few calls as there can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from uoro_torch.trees import widen

_C: Any = torch  # whose functions on lists are typed for lists of Python numbers alone

WIDE = (torch.float32, torch.float64, torch.complex64, torch.complex128)
"""The dtypes in which products of scalars and tensors are formed as they are."""


def add_up(scalars: Sequence[Any], lists: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Add up lists of tensors of one dtype, each list times its scalar.

    Args:
        scalars: Numbers or tensors of shape ().
        lists: As many lists, all of the same shapes.
    """
    weights = [_number(scalar) for scalar in scalars]
    (first, *rest), (tensors, *others) = weights, lists
    total: Any = tensors
    if isinstance(first, Tensor) or first != 1.0 or not others:
        total = _C._foreach_mul(tensors, first)
    for weight, more in zip(rest, others, strict=True):
        fresh = total is not tensors
        if isinstance(weight, Tensor):
            scaled = _C._foreach_mul(more, weight)
            total = _C._foreach_add(total, scaled)
        elif fresh:
            _C._foreach_add_(total, more, alpha=weight)
        else:
            total = _C._foreach_add(total, more, alpha=weight)
    return list(total)


def _number(scalar: Any) -> Any:
    """Make a number of a tensor where that waits for no device."""
    if isinstance(scalar, Tensor) and scalar.device.type == "cpu":
        return scalar.item()
    return scalar


def quick_norms(lists: Sequence[Sequence[Tensor]]) -> list[float] | None:
    """Take the norm of each list as a Python number, in the tensors' own precision.

    Returns:
        ``None`` if the square of something is near the ends of what a float32 can be, or the
        dtypes are narrow or various: then more care is needed.
    """
    tensors = [leaf for leaves in lists for leaf in leaves]
    dtype = tensors[0].dtype if tensors else None
    if dtype not in WIDE or any(leaf.dtype is not dtype or not leaf.numel() for leaf in tensors):
        return None
    parts = iter(torch.stack(_C._foreach_norm(tensors)).tolist())
    norms = [math.hypot(*(next(parts) for _ in leaves)) for leaves in lists]
    return norms if all(1e-12 < norm < 1e15 for norm in norms) else None


def careful_norm(leaves: Sequence[Tensor], device: torch.device, traced: bool) -> Tensor:
    """Take the norm of real tensors with care.

    Eagerly it is taken in float64, which has room for the squares of smaller floats. What is
    mapped or compiled is scaled by its largest entry instead: a compiler would make each
    entry wide, which takes it twice as long.

    Args:
        leaves: Float64 tensors among them are scaled in any case.
        device: Of the result, if there is nothing to take the norm of.
        traced: Whether a map or a compiler looks on.
    """
    leaves = [leaf for leaf in leaves if leaf.numel()]
    if not leaves:
        return torch.zeros((), dtype=torch.float64, device=device)
    if not traced and all(leaf.dtype is not torch.float64 for leaf in leaves):
        return _length(leaves)
    wide = [widen(leaf) for leaf in leaves]
    peaks = [leaf.abs().amax() for leaf in wide]
    least = max(torch.finfo(peak.dtype).tiny for peak in peaks) * 4  # whose inverse is finite
    largest = torch.stack([peak.double() for peak in peaks]).amax().clamp(min=least)
    scaled = [leaf * (1 / largest).to(leaf.dtype) for leaf in wide]
    if traced:
        return largest * torch.stack([(leaf * leaf).sum() for leaf in scaled]).sum().sqrt()
    return torch.where(largest < math.inf, largest * _length(scaled), largest)


def _length(leaves: Sequence[Tensor]) -> Tensor:
    parts = _C._foreach_norm(leaves, 2, dtype=torch.float64)
    length: Tensor = torch.linalg.vector_norm(torch.stack(list(parts)))
    return length
