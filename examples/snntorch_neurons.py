"""Recurrent spiking neurons of snnTorch learn online, with snnTorch's surrogate gradient.

With `init_hidden=True` the neurons keep potential and spikes in attributes, where no gradient leads
from one step to the next. `lift_state` makes both a state that goes in and out.
"""

import snntorch
import torch
from snntorch import surrogate
from torch import nn
from uoro_torch import Online, lift_state

UNITS, STEPS = 16, 400

torch.manual_seed(0)
neurons = snntorch.RLeaky(
    beta=0.5,
    threshold=0.5,
    spike_grad=surrogate.fast_sigmoid(slope=5),
    linear_features=UNITS,
    init_hidden=True,
)
network = nn.Sequential(nn.Linear(1, UNITS), neurons, nn.Linear(UNITS, 1))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
model = lift_state(network, torch.zeros(1))
# check=False: a surrogate gradient is not the derivative of the forward pass, on purpose.
online = Online.for_module(model, nn.functional.mse_loss, check=False)

# Remember the number seen one step ago.
numbers, losses = torch.randint(0, 2, (STEPS + 1, 1)) * 2.0 - 1.0, []
for x, y in zip(numbers[1:], numbers[:-1], strict=True):
    losses.append(online.step(x, y))
    optimizer.step()
    optimizer.zero_grad()

first, last = torch.stack(losses[:50]).mean(), torch.stack(losses[-50:]).mean()
print(f"squared error: {first:.2f} at first, {last:.4f} at last")
