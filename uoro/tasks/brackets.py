"""The task of distant brackets: repeat the letters of an earlier pair of brackets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from uoro.arguments import mismatch, require_count, require_seed
from uoro.errors import SettingError, spelled
from uoro.learning.optimizers import Adam
from uoro.schedules import inverse_sqrt
from uoro.tasks.pairs import PairStream, Symbols, Synthetic
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task

LINES = 256
LONGEST = 100_000
"""Largest s and k; a block of lines is held in memory."""
OPENING, CLOSING, END = 0, 1, 2
FIXED = 5
"""Symbols of a line besides its letters: two pairs of brackets and the line end."""


@dataclass(frozen=True)
class DistantBrackets:
    """Lines such as ``[c]hagef[c]⏎``: s letters in brackets, k others, the s letters again.

    Every letter is uniform in an alphabet of a letters.

    Args:
        s: Number of letters to remember, 1 to 100,000; default 1.
        k: Number of letters between the brackets, 0 to 100,000; default 5.
        a: Number of letters of the alphabet, 2 to 26; default 10.

    Raises:
        SettingError: If a number is out of range.

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
            expected = f"a <= 26, s <= {LONGEST:,} and k <= {LONGEST:,}"
            raise SettingError(mismatch(call, "", expected, f"s={kept}, k={between}, a={letters}"))

    @property
    def alphabet(self) -> str:
        """The symbols: brackets, line end and letters."""
        return "[]\n" + "abcdefghijklmnopqrstuvwxyz"[: self.a]

    @property
    def line_length(self) -> int:
        """Number of symbols of a line, line end included."""
        return 2 * self.s + self.k + FIXED

    @property
    def entropy_rate(self) -> float:
        """Bits per symbol: s + k letters of each line are random."""
        return (self.s + self.k) * math.log2(self.a) / self.line_length

    @property
    def entropy_rate_without_memory(self) -> float:
        """Bits per symbol of the best predictor that forgets the letters in brackets."""
        return (2 * self.s + self.k) * math.log2(self.a) / self.line_length

    def stream(self, seed: int) -> PairStream:
        """Return the endless stream of neighbouring symbols, from its beginning.

        Raises:
            SettingError: If the seed is no integer in [0, 2**63).
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
    """Return the task of figure 2b: distant brackets with Adam and ``γ/(1+α sqrt(t))``.

    Args:
        s: Number of letters to remember.
        k: Number of letters between the brackets.
        a: Number of letters of the alphabet.
        network: The network; default one GRU layer of 64 units.
        learning_rate: γ, the learning rate at t = 0.
        decay: α, the decay of the learning rate.

    Raises:
        SettingError: If a number is out of range.
        UnknownNameError: If the cell of the network is unknown.
    """
    return symbol_task(
        DistantBrackets(s, k, a),
        network,
        Adam(inverse_sqrt(learning_rate, decay)),
        name="brackets",
        title=f"Distant brackets ({s}, {k}, {a})",
        settings={"s": s, "k": k, "a": a, "learning_rate": learning_rate, "decay": decay},
    )
