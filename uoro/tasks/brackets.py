"""Distant brackets: what stood between the first brackets stands between the second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from uoro.arguments import require_count, require_seed
from uoro.errors import SettingError, spelled
from uoro.learning.optimizers import Adam
from uoro.schedules import inverse_sqrt
from uoro.tasks.pairs import PairStream, Symbols, Synthetic
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task

LINES = 256
LONGEST = 100_000
"""A block of lines is held at once."""
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
        SettingError: Unless they are integers, s from 1 to 100,000, k from 0 to 100,000, and a
            from 2 to 26.

    References:
        The paper, section 4 and figure 2b: (1, 5, 10).
    """

    s: int = 1
    k: int = 5
    a: int = 10

    def __post_init__(self) -> None:
        call = f"DistantBrackets(s={spelled(self.s)}, k={spelled(self.k)}, a={spelled(self.a)})"
        kept = require_count(call, "s", self.s)
        between = require_count(call, "k", self.k, least=0)
        letters = require_count(call, "a", self.a, least=2)
        if letters > 26 or max(kept, between) > LONGEST:
            raise SettingError(
                f"{call}: wanted are 2 <= a <= 26, and s and k of {LONGEST:,} at most."
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
        """Make the endless stream of neighbouring symbols from its beginning.

        Raises:
            SettingError: If the seed is no integer from 0 to 2**63 - 1.
        """
        number = require_seed("DistantBrackets.stream(seed)", seed)
        return PairStream(Synthetic(number, self._block, len(self.alphabet)))

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
    learning_rate: float = 1e-3,
    decay: float = 0.015,
) -> Task:
    """Make the task of figure 2b, with Adam at rate ``γ/(1+α sqrt(t))``.

    Args:
        s: How many letters to remember.
        k: How many come between.
        a: The size of the alphabet.
        network: The network; one GRU layer of 64 units if not given.
        learning_rate: γ.
        decay: α.

    Raises:
        SettingError: If a number is out of its range.
        UnknownNameError: If there is no such cell.
    """
    return symbol_task(
        DistantBrackets(s, k, a),
        network,
        Adam(inverse_sqrt(learning_rate, decay)),
        name="brackets",
        title=f"Distant brackets ({s}, {k}, {a})",
        settings={"s": s, "k": k, "a": a, "learning_rate": learning_rate, "decay": decay},
    )
