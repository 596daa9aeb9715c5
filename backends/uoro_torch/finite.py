"""Are tensors finite? Looked at in every step, so it takes a few microseconds."""

from __future__ import annotations

import math
from cmath import isfinite
from typing import Any

import torch
from torch import Tensor

from uoro.estimators.rolling import Window
from uoro_torch.trees import as_real, differentiable_leaves, widen

_private: Any = torch  # whose functions on lists are not exported


class Finite:
    """Ask whether tensors are finite."""

    def __init__(self) -> None:
        self._device: torch.device | None = None
        self._found = self._one = torch.empty(0)

    def __call__(self, tensors: list[Tensor]) -> bool:
        """Return whether all numbers of some tensors are finite.

        The kernel of PyTorch's gradient scaler looks at all tensors of one dtype at once. It
        multiplies them by one in place.

        Args:
            tensors: Contiguous tensors, none of them a view.
        """
        if not tensors:
            return True
        dtype = tensors[0].dtype
        plain = [each for each in tensors if each.dtype is dtype]
        if not dtype.is_floating_point:
            return all(bool(each.isfinite().all()) for each in tensors)
        if len(plain) < len(tensors) and not self([e for e in tensors if e.dtype is not dtype]):
            return False
        device = plain[0].device
        if self._device != device:
            self._device = device
            self._found, self._one = (torch.full((), x, device=device) for x in (0.0, 1.0))
        try:
            _private._amp_foreach_non_finite_check_and_unscale_(plain, self._found, self._one)
        except (RuntimeError, NotImplementedError):  # Not for this device, or these tensors.
            return all(bool(each.isfinite().all()) for each in plain)
        if not float(self._found):
            return True
        self._found.zero_()
        return False

    def lost(self, before: Any, after: Any) -> float | None:
        """Return a number that is not finite in a state, in a place where one before was.

        Args:
            before: State before, in which a mask may hold infinities.
            after: State after.
        """
        leaves = [after] if isinstance(after, Tensor) else differentiable_leaves(after)
        if all(isfinite(leaf.sum().item()) for leaf in leaves):
            return None
        for leaf, old in zip(
            differentiable_leaves(after), differentiable_leaves(before), strict=True
        ):
            bad = ~leaf.isfinite() & old.isfinite()
            if bool(bad.any()):
                return float(as_real(leaf[bad]).reshape(-1).sum())
        return None


def first_unfinite(tensors: list[Tensor]) -> float:
    """Return NaN if a tensor has one, infinity otherwise."""
    return math.nan if any(bool(each.isnan().any()) for each in tensors) else math.inf


def size_of(carry: Any) -> float | None:
    """Return the norm of an influence estimate: of pairs ‖s̃‖ ‖θ̃‖; ``None`` of stored items."""
    if isinstance(carry, Window):
        return None
    pair = getattr(carry, "tangent", None), getattr(carry, "cotangent", None)
    if None not in pair:
        return _norm(pair[0]) * _norm(pair[1])
    return _norm(carry)


def _norm(tree: Any) -> float:
    leaves = [widen(as_real(leaf)) for leaf in differentiable_leaves(tree)]
    return math.hypot(*map(float, _private._foreach_norm(leaves))) if leaves else 0.0
