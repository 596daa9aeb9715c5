"""One LSTM, trained by PyTorch's module and by a JAX function, with the same signs.

Rates follow the paper's schedule for this text: training at a constant rate magnifies rounding.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from uoro_torch import module_transition

from uoro import UORO, Adam, Learner, load_backend
from uoro.learning.carry import Metrics
from uoro.learning.host_noise import SharedNoise
from uoro.schedules import inverse_sqrt

SYMBOLS, UNITS, CHARACTERS = 3, 64, 5_000


class Characters(nn.Module):
    """Embedding, a stock LSTM, and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, UNITS)
        self.lstm = nn.LSTM(UNITS, UNITS)
        self.readout = nn.Linear(UNITS, SYMBOLS)

    def forward(self, character: Any, state: Any) -> Any:
        output, (hidden, cell) = self.lstm(
            self.embedding(character)[None], (state["h"], state["c"])
        )
        return self.readout(output[0]), {"c": cell, "h": hidden}


def _in_jax(params: Any, state: Any, inputs: Any) -> Any:
    """Say the same in JAX."""
    character, target = inputs
    x, h = params["embedding.weight"][character], state["h"][0]
    gates = params["lstm.weight_ih_l0"] @ x + params["lstm.bias_ih_l0"]
    gates = gates + params["lstm.weight_hh_l0"] @ h + params["lstm.bias_hh_l0"]
    into, forget, new, out = jnp.split(gates, 4)
    cell = jax.nn.sigmoid(forget) * state["c"][0] + jax.nn.sigmoid(into) * jnp.tanh(new)
    h = jax.nn.sigmoid(out) * jnp.tanh(cell)
    scores = params["readout.weight"] @ h + params["readout.bias"]
    return {"c": cell[None], "h": h[None]}, -jax.nn.log_softmax(scores)[target]


def _text() -> list[tuple[Any, Any]]:
    """Make aⁿbⁿ with n up to 32, each character with the one that follows."""
    rng, codes = np.random.default_rng(0), list[int]()
    while len(codes) <= CHARACTERS:
        n = int(rng.integers(1, 33))
        codes += [0] * n + [1] * n + [2]
    return [(np.int64(now), np.int64(then)) for now, then in pairwise(codes[: CHARACTERS + 1])]


@pytest.mark.thorough
def test_an_lstm_learns_the_same_in_torch_and_jax() -> None:
    torch.manual_seed(0)
    model, items = Characters().double(), _text()
    weights = {name: param.detach().clone() for name, param in model.named_parameters()}
    zero = np.zeros((1, UNITS))
    state, optimizer = {"c": zero, "h": zero}, Adam(inverse_sqrt(1e-3, 0.03))
    host = {name: weight.numpy() for name, weight in weights.items()}
    losses = {}
    for name in ("torch", "jax"):
        backend: Any = load_backend(name)
        with backend.precision("float64"):
            dynamics = (
                backend.dynamics(
                    module_transition(model, nn.functional.cross_entropy), has_aux=True
                )
                if name == "torch"
                else backend.dynamics(_in_jax)
            )
            signs = SharedNoise(UORO().draw, state, 0)
            learner = Learner(dynamics, UORO(), optimizer, host, state, signs=signs)
            losses[name] = list[float]()
            for start in range(0, CHARACTERS, 500):
                chunk = list[Metrics]()
                learner.run(items[start : start + 500], report=chunk.append)
                losses[name] += [loss for metrics in chunk for loss in metrics.losses]
    torch_losses, jax_losses = (np.array(losses[name]) for name in ("torch", "jax"))
    assert len(torch_losses) == CHARACTERS
    assert np.abs(torch_losses - jax_losses).max() < 1e-6
    assert torch_losses[-500:].mean() < 0.6 * torch_losses[:500].mean(), "and it learns"
