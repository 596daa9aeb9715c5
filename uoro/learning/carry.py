"""What a learner carries from step to step, and what it reports."""

from __future__ import annotations

from typing import Any, NamedTuple


class Progress(NamedTuple):
    """Everything a learner carries from step to step.

    Attributes:
        params: The parameters.
        state: The state of the model.
        carry: The estimator's memory.
        optimizer: The optimizer's memory.
    """

    params: Any
    state: Any
    carry: Any
    optimizer: Any


class Metrics(NamedTuple):
    """What one chunk of steps gave.

    Attributes:
        first_step: Index of its first step, counted from 0.
        losses: The loss of each step; with unrolled dynamics, of its T items together.
    """

    first_step: int
    losses: list[float]


class Summary(NamedTuple):
    """What a run gave.

    Attributes:
        steps: How many steps were taken; fewer than asked for if the stream ended.
        mean_loss: Mean over those steps; NaN if there were none.
        last_loss: Loss of the last one; NaN if there were none.
    """

    steps: int
    mean_loss: float
    last_loss: float
