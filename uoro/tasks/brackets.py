"""Distant brackets: what stood between the first brackets stands between the second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from uoro.errors import SettingError
from uoro.optimizers import Adam
from uoro.schedules import inverse_sqrt
from uoro.tasks.pairs import PairStream, Symbols, Synthetic
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task

LINES = 256
OPENING, CLOSING, END = 0, 1, 2
FIXED = 5
"""Two pairs of brackets and the line end."""


@dataclass(frozen=True)
class DistantBrackets:
    """Lines such as ``[c]hagef[c]⏎``: s letters in brackets, k others, the s letters again.

    Every letter is drawn uniformly from an alphabet of a.

    Args:
        s: How many letters to remember.
        k: How many come between.
        a: The size of the alphabet, without the brackets and the line end.

    Raises:
        SettingError: Unless ``s >= 1``, ``k >= 0`` and ``2 <= a <= 26``.

    References:
        The paper, section 4 and figure 2b: (1, 5, 10).
    """

    s: int = 1
    k: int = 5
    a: int = 10

    def __post_init__(self) -> None:
        if not (self.s >= 1 and self.k >= 0 and 2 <= self.a <= 26):
            raise SettingError(
                f"DistantBrackets(s={self.s}, k={self.k}, a={self.a}): wanted are s >= 1, "
                "k >= 0 and 2 <= a <= 26."
            )

    @property
    def alphabet(self) -> str:
        """The brackets, the line end, and the letters."""
        return "[]\n" + "abcdefghijklmnopqrstuvwxyz"[: self.a]

    @property
    def line_length(self) -> int:
        """How many symbols a line has, its end included."""
        return 2 * self.s + self.k + FIXED

    @property
    def entropy_rate(self) -> float:
        """Bits per symbol: s + k letters of a line are drawn, the rest follows."""
        return (self.s + self.k) * math.log2(self.a) / self.line_length

    @property
    def entropy_rate_without_memory(self) -> float:
        """Bits per symbol of the best predictor that forgets what was in the brackets."""
        return (2 * self.s + self.k) * math.log2(self.a) / self.line_length

    def stream(self, seed: int) -> PairStream:
        """Make the endless stream of neighbouring symbols from its beginning."""
        return PairStream(Synthetic(seed, self._block, len(self.alphabet)))

    def _block(self, generator: np.random.Generator) -> Symbols:
        letters = len("[]\n") + generator.integers(0, self.a, (LINES, self.s + self.k))
        kept, between = letters[:, : self.s], letters[:, self.s :]

        def column(symbol: int) -> Symbols:
            return np.full((LINES, 1), symbol)

        bracketed = (column(OPENING), kept, column(CLOSING))
        return np.concatenate([*bracketed, between, *bracketed, column(END)], 1).reshape(-1)


def distant_brackets(
    s: int = 1,
    k: int = 5,
    a: int = 10,
    *,
    network: Network | None = None,
    rate: float = 1e-3,
    decay: float = 0.015,
) -> Task:
    """Make the task of figure 2b, with Adam at rate ``γ/(1+α sqrt(t))``.

    Args:
        s: How many letters to remember.
        k: How many come between.
        a: The size of the alphabet.
        network: The network; one GRU layer of 64 units if not given.
        rate: γ.
        decay: α.
    """
    return symbol_task(
        DistantBrackets(s, k, a),
        network or Network(),
        Adam(inverse_sqrt(rate, decay)),
        name="brackets",
        title=f"Distant brackets ({s}, {k}, {a})",
        settings={"s": s, "k": k, "a": a, "rate": rate, "decay": decay},
    )
