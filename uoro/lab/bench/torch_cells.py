"""The models of the benchmark, written for PyTorch alone, without this library."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F  # as everyone calls it

Params: TypeAlias = dict[str, Tensor]
State: TypeAlias = dict[str, Tensor]
Item: TypeAlias = dict[str, Tensor]


def gru(params: Params, state: State, item: Item) -> tuple[State, Tensor]:
    """Take one step of ``uoro.models.GRU`` with its readout."""
    h, n = state["0/h"], state["0/h"].shape[0]
    given = F.embedding(item["symbol"], params["0/input"]) + params["0/bias"]
    gates = torch.sigmoid(torch.addmv(given[: 2 * n], params["0/gates"], h))
    update, reset = gates[:n], gates[n:]
    candidate = torch.tanh(torch.addmv(given[2 * n :], params["0/candidate"], reset * h))
    h = torch.lerp(h, candidate, update)
    return {"0/h": h}, _loss(params, h, item)


def lstm(params: Params, state: State, item: Item) -> tuple[State, Tensor]:
    """Take one step of ``uoro.models.LSTM`` with its readout."""
    n = state["0/h"].shape[0]
    given = F.embedding(item["symbol"], params["0/embedding"])
    total = torch.addmv(params["0/map_bias"], params["0/map"], given) + torch.addmv(
        params["0/recurrent_bias"], params["0/recurrent"], state["0/h"]
    )
    gates = torch.sigmoid(total[: 3 * n])
    c = gates[n : 2 * n] * state["0/c"] + gates[:n] * torch.tanh(total[3 * n :])
    h = gates[2 * n :] * torch.tanh(c)
    return {"0/c": c, "0/h": h}, _loss(params, h, item)


def rnn(params: Params, state: State, item: Item) -> tuple[State, Tensor]:
    """Take one step of ``uoro.models.Tanh`` with its readout."""
    given = F.embedding(item["symbol"], params["0/input"]) + params["0/bias"]
    h = torch.addmv(given, params["0/recurrent"], torch.tanh(state["0/h"]))
    return {"0/h": h}, _loss(params, torch.tanh(h), item)


CELLS: dict[str, Callable[[Params, State, Item], tuple[State, Tensor]]] = {
    "gru": gru,
    "lstm": lstm,
    "rnn": rnn,
}


def _loss(params: Params, signal: Tensor, item: Item) -> Tensor:
    logits = torch.addmv(params["readout/bias"], params["readout/map"], signal)
    return F.cross_entropy(logits, item["target"])
