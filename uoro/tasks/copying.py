"""The copy task: repeat the symbol read a fixed number of steps ago."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uoro.arguments import mismatch, require_count, require_seed
from uoro.errors import SettingError, spelled
from uoro.learning.optimizers import Adam
from uoro.schedules import inverse
from uoro.tasks.pairs import PairStream, Symbols, Synthetic
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task

BLOCK = 4096
LONGEST = 100_000
"""Largest lag; the symbols of the lag are held in memory."""


@dataclass(frozen=True)
class Copy:
    """Uniform random symbols; the target is the symbol read ``lag`` steps ago.

    The first ``lag`` targets are symbols that were never read.

    Args:
        lag: Number of steps to remember, 1 to 100,000; default 5.
        a: Number of symbols of the alphabet, 2 to 26; default 8.

    Raises:
        SettingError: If a number is out of range.

    References:
        The paper, figure 1c: lag 5. The paper does not state the size of the alphabet.
    """

    lag: int = 5
    a: int = 8

    def __post_init__(self) -> None:
        call = f"Copy(lag={spelled(self.lag)}, a={spelled(self.a)})"
        lag = require_count(call, "lag", self.lag)
        letters = require_count(call, "a", self.a, least=2)
        if letters > 26 or lag > LONGEST:
            expected = f"a <= 26 and lag <= {LONGEST:,}"
            raise SettingError(mismatch(call, "", expected, f"lag={lag}, a={letters}"))

    @property
    def alphabet(self) -> str:
        """The symbols: the first letters."""
        return "abcdefghijklmnopqrstuvwxyz"[: self.a]

    @property
    def entropy_rate(self) -> float:
        """Zero bits per symbol: the target is known once read."""
        return 0.0

    def stream(self, seed: int) -> PairStream:
        """Return the endless stream of symbols and targets, from its beginning.

        Raises:
            SettingError: If the seed is no integer in [0, 2**63).
        """
        number = require_seed("Copy.stream(seed)", seed)
        return PairStream(Synthetic(number, self._block, len(self.alphabet)), lead=-self.lag)

    def _block(self, generator: np.random.Generator) -> Symbols:
        return generator.integers(0, self.a, BLOCK)


def copying(
    lag: int = 5,
    a: int = 8,
    *,
    network: Network | None = None,
    learning_rate: float = 1e-4,
    decay: float = 3e-3,
) -> Task:
    """Return the task of figure 1c: copying with Adam and ``γ/(1+α t)``.

    Args:
        lag: Number of steps to remember.
        a: Number of symbols of the alphabet.
        network: The network; default one GRU layer of 64 units.
        learning_rate: γ, the learning rate at t = 0.
        decay: α, the decay of the learning rate.

    Raises:
        SettingError: If a number is out of range.
        UnknownNameError: If the cell of the network is unknown.
    """
    return symbol_task(
        Copy(lag, a),
        network,
        Adam(inverse(learning_rate, decay)),
        name="copy",
        title=f"Copy after {lag} steps, {a} letters",
        settings={"lag": lag, "a": a, "learning_rate": learning_rate, "decay": decay},
    )
