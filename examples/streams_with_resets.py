"""Eight streams at once in PyTorch, each with a pair of its own, and episodes that end.

In each episode a cue is shown once and asked for at the end, a few steps later; then the stream
starts anew. Episodes have different lengths, so that the streams end at different times.
"""

from __future__ import annotations

import torch
from torch import nn
from uoro_torch import Online

STREAMS, UNITS, STEPS = 8, 16, 800


class Model(nn.Module):
    """A GRU cell and a readout, for a batch of rows."""

    def __init__(self):
        super().__init__()
        self.cell, self.readout = nn.GRUCell(2, UNITS), nn.Linear(UNITS, 1)

    def forward(self, x, state):
        state = self.cell(x, state)
        return self.readout(state), state


torch.manual_seed(0)
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


def loss(output, target):
    """Count the end of an episode alone; elsewhere the target is not a number."""
    asked = ~target.isnan()
    return torch.where(asked, (output - target.nan_to_num()) ** 2, 0.0).mean()


online = Online.for_module(model, loss, torch.zeros(STREAMS, UNITS), streams=STREAMS)
cue = torch.randint(0, 2, (STREAMS,)) * 2.0 - 1.0
left = torch.randint(3, 7, (STREAMS,))
fresh = torch.ones(STREAMS, dtype=torch.bool)
losses = []
for _ in range(STEPS):
    shown = torch.stack([torch.where(fresh, cue, 0.0), torch.ones(STREAMS)], 1)
    ended = left == 0
    target = torch.where(ended, cue, torch.nan)[:, None]
    losses.append(online.step(shown, target))
    optimizer.step()
    optimizer.zero_grad()
    online.reset(ended)
    cue = torch.where(ended, torch.randint(0, 2, (STREAMS,)) * 2.0 - 1.0, cue)
    left = torch.where(ended, torch.randint(3, 7, (STREAMS,)), left - 1)
    fresh = ended

first, last = torch.stack(losses[:200]).mean(), torch.stack(losses[-200:]).mean()
print(f"loss: {first:.3f} at first, {last:.3f} at last")
