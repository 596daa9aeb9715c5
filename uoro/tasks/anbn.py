"""The task aⁿbⁿ: counting the a's tells when the b's end."""

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
"""Largest n; a block of lines is held in memory."""


@dataclass(frozen=True)
class AnBn:
    """Pairs of lines ``a…a⏎b…b⏎``: n times a, then n times b, with n uniform in ``k, …, l``.

    Args:
        k: Smallest n; default 1.
        l: Largest n; default 32.

    Raises:
        SettingError: Unless ``1 <= k <= l <= 100,000``, both integers.

    References:
        The paper, section 4 and table 1: aⁿbⁿ(1, 32). Line ends as in the authors' generator.
    """

    k: int = 1
    l: int = 32  # noqa: E741  # the paper's name

    def __post_init__(self) -> None:
        call = f"AnBn(k={spelled(self.k)}, l={spelled(self.l)})"
        least, greatest = require_count(call, "k", self.k), require_count(call, "l", self.l)
        if not least <= greatest <= LONGEST:
            expected, got = f"1 <= k <= l <= {LONGEST:,}", f"k={least}, l={greatest}"
            raise SettingError(mismatch(call, "", expected, got))

    @property
    def alphabet(self) -> str:
        """The symbols: two letters and the line end."""
        return "ab\n"

    @property
    def line_length(self) -> float:
        """Mean number of symbols of a pair of lines, line ends included."""
        return float(self.k + self.l + 2)

    @property
    def entropy_rate(self) -> float:
        """Bits per symbol: the entropy of n, over the length of a pair of lines."""
        return math.log2(self.l - self.k + 1) / self.line_length

    @property
    def entropy_rate_without_count(self) -> float:
        """Bits per symbol of the best predictor that cannot count, and guesses n twice."""
        return 2 * self.entropy_rate

    def stream(self, seed: int) -> PairStream:
        """Return the endless stream of neighbouring symbols, from its beginning.

        Raises:
            SettingError: If the seed is no integer in [0, 2**63).
        """
        number = require_seed("AnBn.stream(seed)", seed)
        return PairStream(Synthetic(number, self._block, len(self.alphabet)))

    def _block(self, generator: np.random.Generator) -> Symbols:
        n = generator.integers(self.k, self.l + 1, LINES)
        one = np.ones_like(n)
        times = np.stack([n, one, n, one], axis=1).reshape(-1)
        return np.repeat(np.tile(np.array([0, 2, 1, 2]), LINES), times)


def anbn(
    k: int = 1,
    l: int = 32,  # noqa: E741  # the paper's name
    *,
    network: Network | None = None,
    learning_rate: float = 1e-3,
    decay: float = 0.03,
) -> Task:
    """Return the task of figure 4 and table 1: aⁿbⁿ with Adam and ``γ/(1+α sqrt(t))``.

    Args:
        k: Smallest n.
        l: Largest n.
        network: The network; default one GRU layer of 64 units.
        learning_rate: γ, the learning rate at t = 0.
        decay: α, the decay of the learning rate.

    Raises:
        SettingError: If a number is out of range.
        UnknownNameError: If the cell of the network is unknown.

    Example:
        >>> from uoro.tasks import anbn
        >>> task = anbn(1, 3)
        >>> task.stream(7).take(10)["symbol"].tolist()  # a is 0, b is 1, the line end is 2
        [0, 2, 1, 2, 0, 2, 1, 2, 0, 0]
        >>> round(task.entropy_rate, 4)
        0.2642
    """
    return symbol_task(
        AnBn(k, l),
        network,
        Adam(inverse_sqrt(learning_rate, decay)),
        name="anbn",
        title=f"aⁿbⁿ({k}, {l})",
        settings={"k": k, "l": l, "learning_rate": learning_rate, "decay": decay},
    )
