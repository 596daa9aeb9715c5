"""Sources of symbols, and the tasks built on them: predict the target symbol."""

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
    """The source of the symbols of a task."""

    @property
    def alphabet(self) -> str:
        """The symbols, in the order of their numbers."""
        ...

    @property
    def entropy_rate(self) -> float | None:
        """The smallest mean loss of any predictor, in bits per symbol; ``None`` if unknown."""
        ...

    def stream(self, seed: int) -> BlockStream:
        """Return the stream of ``{"symbol", "target"}``, from its beginning.

        Args:
            seed: Seed of a synthetic source; it determines every symbol.
        """
        ...


@dataclass(frozen=True)
class Network:
    """The network of a symbol task.

    Attributes:
        cell: A name in `uoro.models.CELLS`, such as ``"lstm"``; default ``"gru"``.
        units: Number of units of each layer; default 64.
        layers: Number of layers; default 1.
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
    """Return the task of predicting the target symbol, with a softmax.

    Args:
        source: The source of the symbols.
        network: The network; default one GRU layer of 64 units.
        optimizer: The optimizer.
        name: Name of the task on the command line.
        title: Title of a figure, one line; the network is appended.
        symbol: Word for one symbol; default ``"character"``.
        settings: Settings of source and optimizer, for the record.

    Raises:
        UnknownNameError: If the cell of the network is unknown.
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
    """Return the model of a symbol task.

    Args:
        call: The call, for errors.
        network: The network.
        alphabet: Number of symbols.

    Raises:
        UnknownNameError: If the cell of the network is unknown.
        SettingError: If a size is out of range.
    """
    cell = require_known(f"{call}(model={spelled(network.cell)})", "model", network.cell, CELLS)
    return SymbolModel((cell(network.units),) * network.layers, alphabet)
