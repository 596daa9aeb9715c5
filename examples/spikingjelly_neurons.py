"""Recurrent spiking neurons of SpikingJelly learn online, with a surrogate gradient.

Neurons and containers keep potential and spikes as memories of their own. `lift_state` makes both a
state that goes in and out; `reset_net` and `detach_net` are not needed.
"""

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn
from uoro_torch import Online, lift_state

UNITS, STEPS = 16, 400

torch.manual_seed(0)
lif = neuron.LIFNode(v_threshold=0.5, surrogate_function=surrogate.ATan())
neurons = layer.LinearRecurrentContainer(lif, UNITS, UNITS)
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
