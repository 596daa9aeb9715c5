"""The copy task: say what was read a fixed time ago."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uoro.arguments import require_count, require_seed
from uoro.errors import SettingError, spelled
from uoro.learning.optimizers import Adam
from uoro.schedules import inverse
from uoro.tasks.pairs import PairStream, Symbols, Synthetic
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task

BLOCK = 4096
LONGEST = 100_000
"""What lies between a symbol and its target is held."""


@dataclass(frozen=True)
class Copy:
    """Random symbols, of which the one read ``lag`` steps ago is the target.

    The first ``lag`` targets were never read.

    Args:
        lag: How long to remember.
        a: The size of the alphabet; every symbol is drawn uniformly.

    Raises:
        SettingError: Unless they are integers, lag from 1 to 100,000 and a from 2 to 26.

    References:
        The paper, figure 1c: lag 5. It does not say how many symbols there are.
    """

    lag: int = 5
    a: int = 8

    def __post_init__(self) -> None:
        call = f"Copy(lag={spelled(self.lag)}, a={spelled(self.a)})"
        lag = require_count(call, "lag", self.lag)
        letters = require_count(call, "a", self.a, least=2)
        if letters > 26 or lag > LONGEST:
            raise SettingError(
                f"{call}: wanted are 2 <= a <= 26, and a lag of {LONGEST:,} at most."
            )

    @property
    def alphabet(self) -> str:
        """The letters."""
        return "abcdefghijklmnopqrstuvwxyz"[: self.a]

    @property
    def entropy_rate(self) -> float:
        """Zero: once read, nothing of a target is left to chance."""
        return 0.0

    def stream(self, seed: int) -> PairStream:
        """Make the endless stream from its beginning.

        Raises:
            SettingError: If the seed is no integer from 0 to 2**63 - 1.
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
    """Make the task of figure 1c, with Adam at rate ``γ/(1+α t)``.

    Args:
        lag: How long to remember.
        a: The size of the alphabet.
        network: The network; one GRU layer of 64 units if not given.
        learning_rate: γ.
        decay: α.

    Raises:
        SettingError: If a number is out of its range.
        UnknownNameError: If there is no such cell.
    """
    return symbol_task(
        Copy(lag, a),
        network,
        Adam(inverse(learning_rate, decay)),
        name="copy",
        title=f"Copy after {lag} steps, {a} letters",
        settings={"lag": lag, "a": a, "learning_rate": learning_rate, "decay": decay},
    )
