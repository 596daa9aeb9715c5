"""The task of recall: keep a sign in mind among distractors, until the question comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.arguments import mismatch, require_count, require_seed
from uoro.errors import SettingError, spelled
from uoro.learning.optimizers import Adam
from uoro.learning.stream import Taking
from uoro.models import AnswerModel, SymbolModel
from uoro.tasks.pairs import Symbols, Synthetic
from uoro.tasks.symbols import Network
from uoro.tasks.task import Task

EPISODES = 256
"""Number of episodes of a block."""
LONGEST = 100_000
"""Largest delay; the delays of a block are held in memory."""
CUE, DISTRACTOR, QUESTION = 0, 2, 4
"""The first of two symbols of each meaning: -1 or no coin, and 1 or a coin."""
ALPHABET = 6
TARGETS = 3


@dataclass(frozen=True)
class Recall:
    """Episodes of a cue, distractors and a question; the answer is the cue.

    An episode begins with a cue, -1 or 1. After a random delay, uniform from ``low`` to ``high``
    steps, it ends with a question, at which the target is the cue; everywhere else the target is 0,
    which asks for nothing. Distractors and questions come in two kinds, drawn by a fair coin that
    means nothing. Without memory the best answer is 0, at a squared error of 1.

    Args:
        low: Shortest delay, at least 1; default 20.
        high: Longest delay, at most 100,000; default 30.

    Raises:
        SettingError: If a number is out of range.
    """

    low: int = 20
    high: int = 30

    def __post_init__(self) -> None:
        call = f"Recall(low={spelled(self.low)}, high={spelled(self.high)})"
        low, high = (require_count(call, name, getattr(self, name)) for name in ("low", "high"))
        if not low <= high <= LONGEST:
            expected = f"low <= high <= {LONGEST:,}"
            raise SettingError(mismatch(call, "", expected, f"low={low}, high={high}"))

    @property
    def steps(self) -> float:
        """Mean number of steps of an episode."""
        return (self.low + self.high) / 2 + 1

    def stream(self, seed: int) -> RecallStream:
        """Return the endless stream of symbols and targets, from its beginning.

        Raises:
            SettingError: If the seed is no integer in [0, 2**63).
        """
        number = require_seed("Recall.stream(seed)", seed)
        return RecallStream(Synthetic(number, self._block, ALPHABET * TARGETS))

    def _block(self, generator: np.random.Generator) -> Symbols:
        delays = generator.integers(self.low, self.high + 1, EPISODES)
        ends = np.cumsum(delays + 1)
        cues, asked = ends - delays - 1, ends - 1
        coins = generator.integers(0, 2, ends[-1])
        symbols, targets = DISTRACTOR + coins, np.zeros(ends[-1], np.int64)
        symbols[asked] += QUESTION - DISTRACTOR
        symbols[cues] += CUE - DISTRACTOR
        targets[asked] = 2 * coins[cues] - 1
        codes: Symbols = symbols * TARGETS + targets + 1
        return codes


class RecallStream(Taking):
    """A stream of ``{"symbol", "target"}``: integers, the target -1, 0 or 1.

    Args:
        codes: Both numbers of each item, as one.
    """

    def __init__(self, codes: Synthetic) -> None:
        self._codes = codes

    @property
    def position(self) -> Any:
        """Position of the next item."""
        return self._codes.position

    def seek(self, position: Any) -> None:
        """Continue at a position.

        Raises:
            StreamError: If the position is invalid.
        """
        self._codes.seek(position)

    def take(self, count: int) -> Any:
        """Return a stack of ``count`` items."""
        parts, missing = [self._codes.read(0)], count
        while missing:
            parts.append(self._codes.read(missing))
            missing -= len(parts[-1])
        symbol, target = np.divmod(np.concatenate(parts), TARGETS)
        return {"symbol": symbol, "target": target - 1}


def recall(
    low: int = 20,
    high: int = 30,
    *,
    network: Network | None = None,
    learning_rate: float = 1e-3,
) -> Task:
    """Return the task of recalling a cue, with Adam at a constant learning rate.

    The loss is the mean squared error of an answer: that of all items, times the mean number of
    steps of an episode.

    Args:
        low: Shortest delay between cue and question.
        high: Longest delay.
        network: The network; default one GRU layer of 32 units.
        learning_rate: Learning rate.

    Raises:
        SettingError: If a number is out of range.
    """
    source = Recall(low, high)
    network = Network.given("recall", network, units=32)
    return Task(
        name="recall",
        title=f"Recall after {low} to {high} steps, {network.title}",
        model=AnswerModel(SymbolModel(network.cells(), ALPHABET)),
        stream=source.stream,
        optimizer=Adam(learning_rate),
        loss_name="squared error of an answer",
        loss_scale=source.steps,
        solved_below=0.05,
        entropy_rate=None,
        settings={
            "low": low,
            "high": high,
            "learning_rate": learning_rate,
            **network.settings,
        },
    )
