"""What a source of symbols is, and a task made of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from uoro.arguments import require_count, require_kind, require_known
from uoro.errors import spelled
from uoro.learning.stream import BlockStream
from uoro.models import CELLS, SymbolModel
from uoro.optimizer import Optimizer
from uoro.tasks.task import Task


class SymbolSource(Protocol):
    """Where the symbols of a task come from."""

    @property
    def alphabet(self) -> str:
        """The symbols, in the order of their numbers."""
        ...

    @property
    def entropy_rate(self) -> float | None:
        """The least mean loss a predictor can reach, in bits per symbol, if it is known."""
        ...

    def stream(self, seed: int) -> BlockStream:
        """Make the stream of ``{"symbol", "target"}`` from its beginning.

        Args:
            seed: Determines every symbol of a synthetic source.
        """
        ...


@dataclass(frozen=True)
class Network:
    """The network of a symbol task.

    Attributes:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        units: Units in each layer.
        layers: How many layers.
    """

    cell: str = "gru"
    units: int = 64
    layers: int = 1

    def __post_init__(self) -> None:
        require_known("Network(cell=...)", "model", self.cell, CELLS)
        for what, number in (("units", self.units), ("layers", self.layers)):
            require_count(f"Network({what}={spelled(number)})", f"number of {what}", number)


def symbol_task(
    source: SymbolSource,
    network: Network | None,
    optimizer: Optimizer,
    *,
    name: str,
    title: str,
    symbol: str = "character",
    settings: dict[str, Any],
) -> Task:
    """Make a task of a source of symbols: predict the target, with a softmax.

    Args:
        source: Where the symbols come from.
        network: The network; one GRU layer of 64 units if not given.
        optimizer: The optimizer.
        name: As on the command line.
        title: One line for a figure; the network is added.
        symbol: What one symbol is called.
        settings: The choices that made the source and the optimizer, for the record.

    Raises:
        UnknownNameError: If there is no such cell.
    """
    network = Network() if network is None else network
    require_kind(name, "network", network, Network, "a uoro.tasks.Network")
    return Task(
        name=name,
        title=f"{title}, {network.layers} x {network.units} {network.cell.upper()}",
        model=symbol_model(name, network, len(source.alphabet)),
        stream=source.stream,
        optimizer=optimizer,
        loss_name=f"loss (bits per {symbol})",
        loss_scale=1.0 / math.log(2.0),
        solved_below=None,
        entropy_rate=source.entropy_rate,
        alphabet=source.alphabet,
        settings=settings
        | {"model": network.cell, "units": network.units, "layers": network.layers},
    )


def symbol_model(call: str, network: Network, alphabet: int) -> SymbolModel:
    """Make the model of a symbol task.

    Args:
        call: Who asks, for the error.
        network: The network.
        alphabet: How many symbols there are.

    Raises:
        UnknownNameError: If there is no such cell.
        SettingError: If a size is none.
    """
    cell = require_known(f"{call}(model={spelled(network.cell)})", "model", network.cell, CELLS)
    return SymbolModel((cell(network.units),) * network.layers, alphabet)
