"""A PyTorch LSTM learns a text from a stream, one character at a time.

The text is aⁿbⁿ: a run of a's, then as many b's, on lines of random length. `uoro compare anbn`
shows the same for hundreds of thousands of characters.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn
from uoro_torch import Online

STEPS = 800


class Characters(nn.Module):
    """Embedding, LSTM and softmax; the state is the LSTM's own."""

    def __init__(self, symbols: int, units: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, units)
        self.lstm = nn.LSTM(units, units)
        self.readout = nn.Linear(units, symbols)

    def forward(self, character, state):
        output, state = self.lstm(self.embedding(character)[None], state)
        return self.readout(output[0]), state


def text(steps: int):
    """Yield aⁿbⁿ with n from 1 to 8, as numbers."""
    generator = torch.Generator().manual_seed(1)
    while steps > 0:
        n = int(torch.randint(1, 9, (), generator=generator))
        for character in [0] * n + [1] * n + [2]:
            yield torch.tensor(character)
            steps -= 1


torch.manual_seed(0)
model = Characters(symbols=3, units=16)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
zero = torch.zeros(1, 16)
online = Online.for_module(model, nn.functional.cross_entropy, (zero, zero))

losses = []
for now, following in pairwise(text(STEPS)):
    losses.append(online.step(now, following))  # in place of loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(online.dynamics.describe())
first, last = (torch.stack(part).mean() / math.log(2) for part in (losses[:200], losses[-200:]))
print(f"bits per character: {first:.2f} at first, {last:.2f} at last")
