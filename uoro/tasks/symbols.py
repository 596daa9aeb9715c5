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

    @classmethod
    def given(cls, call: str, network: Network | None, units: int = 64) -> Network:
        """Return the network given; by default one GRU layer of some units.

        Raises:
            SettingError: If it is no network.
        """
        network = cls(units=units) if network is None else network
        require_kind(call, "network", network, cls, "a uoro.tasks.Network")
        return network

    @property
    def title(self) -> str:
        """Return the sizes and the cell, for the title of a figure."""
        return f"{self.layers} x {self.units} {self.cell.upper()}"

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings, for the record."""
        return {"model": self.cell, "units": self.units, "layers": self.layers}

    def cells(self) -> tuple[Any, ...]:
        """Return the cell of each layer."""
        return (CELLS[self.cell](self.units),) * self.layers

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
    """
    network = Network.given(name, network)
    return Task(
        name=name,
        title=f"{title}, {network.title}",
        model=SymbolModel(network.cells(), len(source.alphabet)),
        stream=source.stream,
        optimizer=optimizer,
        loss_name=f"loss (bits per {symbol})",
        loss_scale=1.0 / math.log(2.0),
        solved_below=None,
        entropy_rate=source.entropy_rate,
        alphabet=source.alphabet,
        settings=settings | network.settings,
    )
