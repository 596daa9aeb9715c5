"""The copy task: say what was read a fixed time ago."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uoro.errors import SettingError
from uoro.optimizers import Adam
from uoro.schedules import inverse
from uoro.tasks.pairs import PairStream, Symbols, Synthetic
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task

BLOCK = 4096


@dataclass(frozen=True)
class Copy:
    """Random symbols, of which the one read ``lag`` steps ago is the target.

    The first ``lag`` targets were never read.

    Args:
        lag: How long to remember.
        a: The size of the alphabet; every symbol is drawn uniformly.

    Raises:
        SettingError: Unless ``lag >= 1`` and ``2 <= a <= 26``.

    References:
        The paper, figure 1c: lag 5. It does not say how many symbols there are.
    """

    lag: int = 5
    a: int = 8

    def __post_init__(self) -> None:
        if not (self.lag >= 1 and 2 <= self.a <= 26):
            raise SettingError(
                f"Copy(lag={self.lag}, a={self.a}): wanted are lag >= 1 and 2 <= a <= 26."
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
        """Make the endless stream from its beginning."""
        return PairStream(Synthetic(seed, self._block, len(self.alphabet)), lead=-self.lag)

    def _block(self, generator: np.random.Generator) -> Symbols:
        return generator.integers(0, self.a, BLOCK)


def copying(
    lag: int = 5,
    a: int = 8,
    *,
    network: Network | None = None,
    rate: float = 1e-4,
    decay: float = 3e-3,
) -> Task:
    """Make the task of figure 1c, with Adam at rate ``γ/(1+α t)``.

    Args:
        lag: How long to remember.
        a: The size of the alphabet.
        network: The network; one GRU layer of 64 units if not given.
        rate: γ.
        decay: α.
    """
    return symbol_task(
        Copy(lag, a),
        network or Network(),
        Adam(inverse(rate, decay)),
        name="copy",
        title=f"Copy after {lag} steps, {a} letters",
        settings={"lag": lag, "a": a, "rate": rate, "decay": decay},
    )
