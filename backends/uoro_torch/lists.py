"""Sums and norms of whole lists of tensors, in as few calls as possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from uoro_torch.trees import widen

_C: Any = torch  # whose functions on lists are typed for lists of Python numbers alone

WIDE = {torch.float32, torch.float64, torch.complex64, torch.complex128}
"""The dtypes in which products of scalars and tensors are formed as they are."""


def one_wide_dtype(tensors: Sequence[Tensor]) -> bool:
    """Return whether all tensors, one at least, have the same dtype, and a wide one."""
    dtypes = {tensor.dtype for tensor in tensors}
    return len(dtypes) == 1 and dtypes <= WIDE


def add_up(scalars: Sequence[Any], lists: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the sum of lists of tensors of one dtype, each list times its scalar.

    Args:
        scalars: Numbers or tensors of shape (), one for each list.
        lists: Lists of tensors, all of the same shapes.
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
    """Return the number in a tensor, where this waits for no device."""
    if isinstance(scalar, Tensor) and scalar.device.type == "cpu":
        return scalar.item()
    return scalar


def quick_norms(lists: Sequence[Sequence[Tensor]]) -> list[float] | None:
    """Compute the norm of each list as a Python number, in the tensors' own precision.

    Returns:
        The norms; ``None`` where `careful_norm` is needed: if a square is near the ends of the
        range of float32, or the dtypes are narrow or mixed.
    """
    tensors = [leaf for leaves in lists for leaf in leaves]
    if not one_wide_dtype(tensors) or not all(leaf.numel() for leaf in tensors):
        return None
    parts = iter(torch.stack(_C._foreach_norm(tensors)).tolist())
    norms = [math.hypot(*(next(parts) for _ in leaves)) for leaves in lists]
    return norms if all(1e-12 < norm < 1e15 for norm in norms) else None


def careful_norm(leaves: Sequence[Tensor], device: torch.device, traced: bool) -> Tensor:
    """Compute the norm of real tensors without overflow or underflow.

    Eagerly the sum is in float64, which has room for the squares of smaller floats. Under a map
    or a compiler the tensors are scaled by their largest entry instead: a compiler would widen
    each entry, at twice the time.

    Args:
        leaves: Tensors; those of float64 are scaled in any case.
        device: Device of the result if there are no leaves.
        traced: Whether the caller runs under a map or a compiler.
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
