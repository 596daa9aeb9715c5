"""What mistakes in PyTorch are made with; see `mistakes`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from uoro_torch import Online

from uoro import UORO

mse_loss: Any = nn.functional.mse_loss
NAN = math.nan
X, Y, ZERO = torch.tensor([0.5, -1.0]), torch.tensor([0.3]), torch.zeros(4)


class Model(nn.Module):
    """A cell and a readout."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.core, self.readout = nn.GRUCell(2, 4), nn.Linear(4, outputs)

    def forward(self, input: Any, state: Any) -> Any:
        """Run one step."""
        state = self.core(input, state)
        return self.readout(state), state


def made(loss: Any = mse_loss, outputs: int = 1, state: Any = ZERO, **more: Any) -> Online:
    """Return an `Online` of a small model."""
    more.setdefault("estimator", None if "streams" in more else UORO())
    return Online.for_module(Model(outputs), loss, state, **more)


def plain_loss(output: Any, target: Any) -> Any:
    """Return the mean of squares, as many write it."""
    return ((output - target) ** 2).mean()
