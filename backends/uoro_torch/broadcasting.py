"""Losses in which the target broadcasts against the output: a mistake that trains to the mean."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from uoro.errors import UOROWarning

STACK = 7
"""Number of frames from here to the caller of `Online.step`."""


def warn_of_broadcast(loss: Any, output: Any, target: Any) -> None:
    """Call a loss once, and warn if output and target broadcast to more numbers than they are.

    Where a loss of PyTorch warns or raises itself, that is left as it is.

    Args:
        loss: Function of output and target.
        output: Output of the module.
        target: Target of the item.
    """
    tensors = isinstance(output, Tensor) and isinstance(target, Tensor)
    if not tensors or output.shape == target.shape:
        return
    watching = _Broadcasts(output.shape, target.shape)
    with warnings.catch_warnings(), torch.no_grad(), watching:
        warnings.simplefilter("ignore")
        try:
            loss(output, target)
        except Exception:
            return  # The step raises it again, with nothing around it.
    if watching.found is not None:
        one, other, made = map(tuple, watching.found)
        warnings.warn(
            f"Online.step(input, target): expected a target shaped like the output, "
            f"{tuple(output.shape)}, got {tuple(target.shape)}: in the loss, {one} and {other} "
            f"broadcast to {made}. Try target.reshape(output.shape).",
            UOROWarning,
            stacklevel=STACK,
        )


class _Broadcasts(TorchFunctionMode):
    """Find a function in which two tensors broadcast to more numbers than they should.

    Args:
        output: Shape of the output.
        target: Shape of the target.
    """

    def __init__(self, output: torch.Size, target: torch.Size) -> None:
        super().__init__()
        self._given = {output, target}
        self._single = output.numel() == 1 < target.numel()
        self.found: tuple[torch.Size, torch.Size, torch.Size] | None = None

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function, and look at the shapes."""
        result = function(*args, **(kwargs or {}))
        shapes = [each.shape for each in args if isinstance(each, Tensor)]
        if self.found is None and len(shapes) == 2 and isinstance(result, Tensor):
            one, other = shapes
            larger = result.numel() > max(one.numel(), other.numel())
            single = self._single and {one, other} == self._given
            if one != other and (larger or single) and result.shape == _together(one, other):
                self.found = one, other, result.shape
        return result


def _together(one: torch.Size, other: torch.Size) -> torch.Size | None:
    shapes: Any = torch.broadcast_shapes
    try:
        made: torch.Size = shapes(one, other)
    except RuntimeError:
        return None
    return made
