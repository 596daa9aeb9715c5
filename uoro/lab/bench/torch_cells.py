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


def lru(params: Params, state: State, item: Item) -> tuple[State, Tensor]:
    """Take one step of ``uoro.models.LRU`` with its readout."""
    size, angle = torch.exp(-torch.exp(params["0/decay"])), torch.exp(params["0/phase"])
    given = torch.complex(
        F.embedding(item["symbol"], params["0/input_real"]),
        F.embedding(item["symbol"], params["0/input_imag"]),
    )
    h = torch.polar(size, angle) * state["0/h"] + torch.exp(params["0/scale"]) * given
    y = params["0/output_real"] @ h.real - params["0/output_imag"] @ h.imag
    return {"0/h": h}, _loss(params, y * torch.sigmoid(params["0/gate"] @ y), item)


def rtu(params: Params, state: State, item: Item) -> tuple[State, Tensor]:
    """Take one step of ``uoro.models.RTU`` with its readout."""
    size, angle = torch.exp(-torch.exp(params["0/decay"])), torch.exp(params["0/phase"])
    cosine, sine, scale = size * angle.cos(), size * angle.sin(), torch.exp(params["0/scale"])
    a = cosine * state["0/a"] - sine * state["0/b"]
    b = sine * state["0/a"] + cosine * state["0/b"]
    a = a + scale * F.embedding(item["symbol"], params["0/input_a"])
    b = b + scale * F.embedding(item["symbol"], params["0/input_b"])
    y = torch.addmv(params["0/output_a"] @ a, params["0/output_b"], b)
    return {"0/a": a, "0/b": b}, _loss(params, torch.tanh(y), item)


def mingru(params: Params, state: State, item: Item) -> tuple[State, Tensor]:
    """Take one step of ``uoro.models.MinGRU`` with its readout."""
    h, n = state["0/h"], state["0/h"].shape[0]
    given = F.embedding(item["symbol"], params["0/input"]) + params["0/bias"]
    h = torch.lerp(h, given[n:], torch.sigmoid(given[:n]))
    return {"0/h": h}, _loss(params, torch.tanh(params["0/output"] @ h), item)


def elstm(params: Params, state: State, item: Item) -> tuple[State, Tensor]:
    """Take one step of ``uoro.models.ELSTM`` with its readout."""
    c, n, own = state["0/c"], state["0/c"].shape[0], params["0/recurrent"]
    given = F.embedding(item["symbol"], params["0/input"]) + params["0/bias"]
    candidate = torch.tanh(given[n : 2 * n] + own[n:] * c)
    c = torch.lerp(candidate, c, torch.sigmoid(given[:n] + own[:n] * c))
    gate = torch.sigmoid(torch.addmv(given[2 * n :], params["0/output"], c))
    return {"0/c": c}, _loss(params, c * gate, item)


CELLS: dict[str, Callable[[Params, State, Item], tuple[State, Tensor]]] = {
    "gru": gru,
    "lstm": lstm,
    "rnn": rnn,
    "lru": lru,
    "rtu": rtu,
    "mingru": mingru,
    "elstm": elstm,
}


def _loss(params: Params, signal: Tensor, item: Item) -> Tensor:
    logits = torch.addmv(params["readout/bias"], params["readout/map"], signal)
    return F.cross_entropy(logits, item["target"])
