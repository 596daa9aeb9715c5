"""Models of symbol streams: recurrent layers, a linear readout, a softmax loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from uoro.arguments import mismatch, require_count, require_methods, require_number
from uoro.errors import SettingError, spelled
from uoro.models.diagonal import ELSTM, LRU, RTU, MinGRU
from uoro.models.layers import (
    input_map,
    read,
    row,
    sigmoid,
    softmax_loss,
    uniform_bias,
    uniform_map,
)
from uoro.models.model import Arrays


class Cell(Protocol):
    """One recurrent layer.

    The lowest layer reads a symbol through an embedding; each other layer reads the output vector
    of the layer below.
    """

    @property
    def units(self) -> int: ...  # noqa: D102

    def init(self, generator: np.random.Generator, fan_in: int, *, symbols: bool) -> Arrays:
        """Return random params of the layer.

        Args:
            generator: A NumPy generator.
            fan_in: Size of the alphabet, or number of units of the layer below.
            symbols: Whether the layer reads symbols.
        """
        ...

    def start(self) -> Arrays:
        """Return the initial state of the layer, zeros."""
        ...

    def step(
        self, xp: Any, params: Any, state: Any, inputs: Any, *, symbols: bool
    ) -> tuple[Any, Any]:
        """Compute the next state of the layer, and the input of the next layer."""
        ...


@dataclass(frozen=True)
class Tanh:
    """A tanh layer in the paper's preactivation form, ``h' = W x + R tanh(h) + b``.

    The next layer reads tanh(h').

    Args:
        units: Number of units.

    Raises:
        SettingError: If the number of units is no positive integer.
    """

    units: int

    def __post_init__(self) -> None:
        require_count(f"Tanh(units={spelled(self.units)})", "units", self.units)

    def init(self, generator: np.random.Generator, fan_in: int, *, symbols: bool) -> Arrays:
        """Return a random input map, recurrent map and bias."""
        n = self.units
        return {
            "input": input_map(generator, n, fan_in, symbols),
            "recurrent": uniform_map(generator, n, n),
            "bias": uniform_bias(generator, n, n),
        }

    def start(self) -> Arrays:
        """Return preactivations of zero."""
        return {"h": np.zeros(self.units)}

    def step(
        self, xp: Any, params: Any, state: Any, inputs: Any, *, symbols: bool
    ) -> tuple[Any, Any]:
        """Compute the next preactivations, and their tanh."""
        given = read(xp, params["input"], inputs, symbols)
        h = given + params["recurrent"] @ xp.tanh(state["h"]) + params["bias"]
        return {"h": h}, xp.tanh(h)


@dataclass(frozen=True)
class GRU:
    """A gated recurrent unit, in the form of the paper's experiments.

    Each of the three gates has an embedding and a biased linear map of its own:
    ``z, r = σ(E x + R h + b)``, ``h̃ = tanh(E x + R (r ∘ h) + b)``, ``h' = z ∘ h̃ + (1-z) ∘ h``.
    The maps of z and r share one array, so that one product serves both.

    Args:
        units: Number of units.

    Raises:
        SettingError: If the number of units is no positive integer.
    """

    units: int

    def __post_init__(self) -> None:
        require_count(f"GRU(units={spelled(self.units)})", "units", self.units)

    def init(self, generator: np.random.Generator, fan_in: int, *, symbols: bool) -> Arrays:
        """Return random embeddings, recurrent maps and biases."""
        n = self.units
        return {
            "input": input_map(generator, 3 * n, fan_in, symbols),
            "gates": uniform_map(generator, 2 * n, n),
            "candidate": uniform_map(generator, n, n),
            "bias": uniform_bias(generator, 3 * n, n),
        }

    def start(self) -> Arrays:
        """Return a hidden state of zeros."""
        return {"h": np.zeros(self.units)}

    def step(
        self, xp: Any, params: Any, state: Any, inputs: Any, *, symbols: bool
    ) -> tuple[Any, Any]:
        """Compute the next hidden state, twice: as the state and as the output."""
        n, h = self.units, state["h"]
        given = read(xp, params["input"], inputs, symbols) + params["bias"]
        gates = sigmoid(xp, given[: 2 * n] + params["gates"] @ h)
        update, reset = gates[:n], gates[n:]
        candidate = xp.tanh(given[2 * n :] + params["candidate"] @ (reset * h))
        h = update * candidate + (1.0 - update) * h
        return {"h": h}, h


@dataclass(frozen=True)
class LSTM:
    """A long short-term memory, in the form of the paper's experiments.

    Input, forget and output gates and the candidate, each with a biased map of the embedded
    symbol and a biased map of h. The maps share one array, so that one product serves all four.
    The state is the pair of c and h.

    Args:
        units: Number of units.
        forget_bias: Initial bias of the forget gate; default -0.3.

    Raises:
        SettingError: If the number of units is no positive integer, or the bias is not finite.
    """

    units: int
    forget_bias: float = -0.3

    def __post_init__(self) -> None:
        require_count(f"LSTM(units={spelled(self.units)})", "units", self.units)
        call = f"LSTM(forget_bias={spelled(self.forget_bias)})"
        require_number(call, "forget_bias", self.forget_bias, "a finite number")

    def init(self, generator: np.random.Generator, fan_in: int, *, symbols: bool) -> Arrays:
        """Return a random embedding, random maps and biases."""
        n = self.units
        width = n if symbols else fan_in
        params = {
            "map": uniform_map(generator, 4 * n, width),
            "map_bias": uniform_bias(generator, 4 * n, width),
            "recurrent": uniform_map(generator, 4 * n, n),
            "recurrent_bias": uniform_bias(generator, 4 * n, n),
        }
        params["map_bias"][n : 2 * n] = self.forget_bias
        params["recurrent_bias"][n : 2 * n] = 0.0
        if symbols:
            params["embedding"] = generator.standard_normal((fan_in, n))
        return params

    def start(self) -> Arrays:
        """Return c and h of zeros."""
        return {"c": np.zeros(self.units), "h": np.zeros(self.units)}

    def step(
        self, xp: Any, params: Any, state: Any, inputs: Any, *, symbols: bool
    ) -> tuple[Any, Any]:
        """Compute the next c and h, and h again as the output."""
        n = self.units
        given = row(xp, params["embedding"], inputs) if symbols else inputs
        total = (
            params["map"] @ given
            + params["map_bias"]
            + params["recurrent"] @ state["h"]
            + params["recurrent_bias"]
        )
        gates = sigmoid(xp, total[: 3 * n])
        c = gates[n : 2 * n] * state["c"] + gates[:n] * xp.tanh(total[3 * n :])
        h = gates[2 * n :] * xp.tanh(c)
        return {"c": c, "h": h}, h


@dataclass(frozen=True)
class SymbolModel:
    """A model that predicts the next symbol: stacked layers, a readout, a softmax.

    An item is ``{"symbol": i, "target": j}``, two integers; the loss is the cross-entropy in nats.
    The state holds the states of the layers under ``"0"``, ``"1"``, …; the loss is computed from
    the next state.

    Args:
        cells: The layers, the lowest first.
        alphabet: Number of symbols, at least 2.

    Raises:
        SettingError: If there is no layer, one is no `Cell`, or there are fewer than two symbols.
    """

    cells: tuple[Cell, ...]
    alphabet: int

    def __post_init__(self) -> None:
        call = f"SymbolModel(cells={spelled(self.cells)}, alphabet={spelled(self.alphabet)})"
        require_count(call, "alphabet", self.alphabet, least=2)
        if not isinstance(self.cells, tuple) or not self.cells:
            got = spelled(self.cells)
            raise SettingError(mismatch(call, "cells", "a tuple of at least one layer", got))
        for cell in self.cells:
            require_methods(
                call, "layer", cell, ("init", "start", "step"), "a layer, such as GRU(64)"
            )
            require_count(call, "units", cell.units)

    def init(self, generator: np.random.Generator) -> tuple[Arrays, Any]:
        """Return random params of layers and readout, and the initial state.

        Raises:
            SettingError: If the generator is no NumPy generator.
        """
        require_methods(
            "SymbolModel.init(generator)",
            "generator",
            generator,
            ("uniform", "standard_normal"),
            "a NumPy generator, as numpy.random.default_rng(seed) returns",
        )
        params: Arrays = {}
        fan_in = self.alphabet
        for i, cell in enumerate(self.cells):
            params[str(i)] = cell.init(generator, fan_in, symbols=i == 0)
            fan_in = cell.units
        params["readout"] = {
            "map": uniform_map(generator, self.alphabet, fan_in),
            "bias": uniform_bias(generator, self.alphabet, fan_in),
        }
        return params, {str(i): cell.start() for i, cell in enumerate(self.cells)}

    def predict(self, xp: Any, params: Any, state: Any, symbol: Any) -> tuple[Any, Any]:
        """Compute the next state, and one logit per symbol."""
        signal, next_state = symbol, {}
        for i, cell in enumerate(self.cells):
            name = str(i)
            next_state[name], signal = cell.step(
                xp, params[name], state[name], signal, symbols=i == 0
            )
        readout = params["readout"]
        return next_state, readout["map"] @ signal + readout["bias"]

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        """Compute one step: ``(next_state, loss)``."""
        next_state, logits = self.predict(xp, params, state, inputs["symbol"])
        return next_state, softmax_loss(xp, logits, inputs["target"])


CELLS: dict[str, Callable[[int], Cell]] = {
    "rnn": Tanh,
    "gru": GRU,
    "lstm": LSTM,
    "lru": LRU,
    "rtu": RTU,
    "mingru": MinGRU,
    "elstm": ELSTM,
}
"""Layers by name; each is made from a number of units."""
