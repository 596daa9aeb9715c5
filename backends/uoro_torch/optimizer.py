"""Any `torch.optim.Optimizer`, as an optimizer of this library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optree
import torch

from uoro.backend import Backend
from uoro.errors import StructureError


@dataclass(frozen=True)
class TorchOptimizer:
    """Let a `torch.optim` optimizer change the params, in place as it always does.

    Args:
        optimizer: Any whose ``step`` needs no closure, made over the very tensors that the
            `Learner` gets as its params.

    Example:
        >>> import torch
        >>> from uoro_torch import TorchOptimizer
        >>> params = {"theta": torch.zeros(3, requires_grad=True)}
        >>> optimizer = TorchOptimizer(torch.optim.RMSprop(params.values(), lr=1e-3))
    """

    optimizer: torch.optim.Optimizer

    def init(self, backend: Backend, params: Any) -> tuple[()]:
        """Check that the optimizer holds these params.

        Raises:
            StructureError: If it holds other tensors, which would then never move.
        """
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        strangers = [name for name, p in backend.named_leaves(params) if id(p) not in held]
        if strangers:
            raise StructureError(
                f"TorchOptimizer(optimizer): it does not hold the params {strangers}. Make it "
                "over the same tensors, on the same device, that the learner gets."
            )
        return ()

    def update(
        self, backend: Backend, params: Any, gradient: Any, memory: tuple[()], time: Any
    ) -> tuple[Any, tuple[()]]:
        """Fill ``.grad`` and step; the optimizer keeps its own time."""
        leaves = zip(optree.tree_leaves(params), optree.tree_leaves(gradient), strict=True)
        for param, grad in leaves:
            param.grad = grad.clone(memory_format=torch.contiguous_format)
        self.optimizer.step()
        return params, memory
