"""Sequences of symbols as streams of pairs, and what a source of them is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, TypeAlias

import numpy as np

from uoro.errors import UnknownNameError
from uoro.host_noise import numbered_generator
from uoro.models import CELLS, SymbolModel
from uoro.optimizers import Optimizer
from uoro.stream import BlockStream
from uoro.tasks.task import Task

Symbols: TypeAlias = np.ndarray[Any, np.dtype[Any]]


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
        """Make the endless stream of ``{"symbol", "target"}`` from its beginning.

        Args:
            seed: Determines every symbol of a synthetic source.
        """
        ...


class PairStream:
    """An endless stream of ``{"symbol", "target"}`` cut from one sequence of symbols.

    What is asked for at a time makes no difference to what comes, and no more than one block is
    held.

    Args:
        blocks: The sequence in blocks of any size, without an end.
        lead: How many symbols the target is ahead; 1 to predict the next one, and negative to
            recall an earlier one.
    """

    def __init__(self, blocks: Iterator[Symbols], lead: int = 1) -> None:
        self._blocks = blocks
        self._lead = lead
        self._held: Symbols = np.zeros(0, np.int32)

    def __iter__(self) -> PairStream:
        return self

    def __next__(self) -> dict[str, Any]:
        return {name: column[0] for name, column in self.take(1).items()}

    def take(self, count: int) -> dict[str, Any]:
        """Give the next ``count`` pairs."""
        parts, got = [self._held], len(self._held)
        while got < count + abs(self._lead):
            parts.append(next(self._blocks))
            got += len(parts[-1])
        held = np.concatenate(parts)
        self._held = held[count:]
        symbol, target = max(0, -self._lead), max(0, self._lead)
        return {"symbol": held[symbol : symbol + count], "target": held[target : target + count]}


def synthetic(seed: int, block: Callable[[np.random.Generator], Symbols]) -> Iterator[Symbols]:
    """Draw blocks without an end, each from a generator of its own.

    Args:
        seed: Equal seeds give equal blocks.
        block: Draws one.
    """
    return (block(numbered_generator(seed, number)).astype(np.int32) for number in count())


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


def symbol_task(
    source: SymbolSource,
    network: Network,
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
        network: The network.
        optimizer: The optimizer.
        name: As on the command line.
        title: One line for a figure; the network is added.
        symbol: What one symbol is called.
        settings: The choices that made the source and the optimizer, for the record.

    Raises:
        UnknownNameError: If there is no such cell.
    """
    if network.cell not in CELLS:
        raise UnknownNameError(f"{name}(model={network.cell!r})", "model", network.cell, CELLS)
    cell = CELLS[network.cell](network.units)
    return Task(
        name=name,
        title=f"{title}, {network.layers} x {network.units} {network.cell.upper()}",
        model=SymbolModel((cell,) * network.layers, len(source.alphabet)),
        stream=source.stream,
        optimizer=optimizer,
        loss_name=f"loss (bits per {symbol})",
        loss_scale=1.0 / math.log(2.0),
        solved_below=None,
        entropy_rate=source.entropy_rate,
        settings=settings
        | {"model": network.cell, "units": network.units, "layers": network.layers},
    )
