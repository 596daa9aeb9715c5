"""The gradient of a two-layer GRU: by BPTT, by RTRL, and the mean of UORO over all signs.

Implementations that take each layer by itself leave out what a lower layer's parameters do to the
upper one's state; here the state is one, both layers together. The mean is over every sequence of
signs there is, so that nothing is left to chance. The last line is what is got layer by layer.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import nn
from uoro_torch import Online

from uoro import RTRL, UORO, unroll
from uoro.algebra import norm
from uoro.estimators import Truncated

STEPS, LAYERS, UNITS = 3, 2, 2

torch.manual_seed(0)
model = nn.GRU(3, UNITS, LAYERS).double()
online = Online.for_module(model, nn.functional.mse_loss)
dynamics, params, state = online.dynamics, online.params, online.state
backend = dynamics.backend
items = [
    (torch.randn(3).double(), torch.randn(UNITS).double(), torch.tensor(0)) for _ in range(STEPS)
]


def by_rtrl(each_layer_alone=False):
    """Sum the gradients over the stream."""
    influence, now = RTRL().init(dynamics, params, state), state
    total = backend.zeros(params)
    for item in items:
        influence, now, estimate = RTRL().step(dynamics, params, influence, now, item, None)
        total = backend.combine((1.0, total), (1.0, estimate.gradient))
        if each_layer_alone:
            # A row for each state coordinate: those of the upper layer lose the lower's params.
            for name, rows in influence.items():
                layer = int(name[-1])
                rows[: layer * UNITS] = 0.0
                rows[(layer + 1) * UNITS :] = 0.0
    return total


def mean_over_signs(carry, now, step):
    """Average the gradients of the steps that are left over all signs from here on."""
    if step == STEPS:
        return backend.zeros(params)
    total = backend.zeros(params)
    # The signs of the last step reach no loss, and one choice stands for all.
    choices = list(product([1.0, -1.0], repeat=LAYERS * UNITS if step < STEPS - 1 else 0))
    for choice in choices:
        signs = torch.tensor(choice or [1.0] * (LAYERS * UNITS)).double().reshape(LAYERS, UNITS)
        after = UORO().step(dynamics, params, carry, now, items[step], signs)
        later = mean_over_signs(after[0], after[1], step + 1)
        share = 1.0 / len(choices)
        total = backend.combine((1.0, total), (share, after[2].gradient), (share, later))
    return total


rtrl = by_rtrl()
whole = unroll(dynamics, STEPS)
_, _, estimate = Truncated().step(whole, params, (), state, backend.collect(items), None)
bptt = estimate.gradient
uoro = mean_over_signs(UORO().init(dynamics, params, state), state, 0)

print(f"gradient by RTRL, norm      {float(norm(backend, rtrl)):.15f}")
alone = by_rtrl(each_layer_alone=True)
for name, gradient in (
    ("BPTT", bptt),
    ("UORO, mean over all signs", uoro),
    ("each layer by itself", alone),
):
    gap = norm(backend, backend.combine((1.0, gradient), (-1.0, rtrl))) / norm(backend, rtrl)
    print(f"{name:<27} {float(norm(backend, gradient)):.15f}, off by {float(gap):.1e}")
