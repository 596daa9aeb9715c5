"""What to do when a model is refused: read why, change that, and look at the route."""

from __future__ import annotations

import torch
from torch import nn
from uoro_torch import Online

from uoro.errors import DerivativeError


class Gated(nn.Module):
    """A cell whose gate is computed where gradients are off, perhaps for speed."""

    def __init__(self, forgetful: bool):
        super().__init__()
        self.cell, self.forgetful = nn.GRUCell(2, 8), forgetful

    def forward(self, x, state):
        if self.forgetful:
            with torch.no_grad():
                gate = torch.sigmoid(state)
        else:
            gate = torch.sigmoid(state)
        state = self.cell(x, gate * state)
        return state, state


torch.manual_seed(0)
x, target, state = torch.randn(2), torch.randn(8), torch.randn(8)

online = Online.for_module(Gated(forgetful=True), nn.functional.mse_loss, state)
try:
    online.step(x, target)
except DerivativeError as error:
    print(f"Refused. {error}\n")

online = Online.for_module(Gated(forgetful=False), nn.functional.mse_loss, state)
online.step(x, target)
print(f"Accepted. {online.dynamics.describe()}")
print("\nFor every law of derivatives, and a proof that UORO is unbiased on the model:")
print("uoro check my_module.py:factory")
