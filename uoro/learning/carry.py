"""The state of a learner, and what it reports."""

from __future__ import annotations

from typing import Any, NamedTuple


class Progress(NamedTuple):
    """Everything that a learner carries from step to step.

    Attributes:
        params: Parameters.
        state: Hidden state of the model.
        carry: Carry of the estimator; ``None`` before the first step.
        optimizer: State of the optimizer; ``None`` before the first step.
    """

    params: Any
    state: Any
    carry: Any
    optimizer: Any


class Metrics(NamedTuple):
    """Losses of one chunk of steps.

    Attributes:
        first_step: Index of the first step, counted from 0.
        losses: Loss of each step; the sum over its T items where a step takes T items.
    """

    first_step: int
    losses: list[float]


class Summary(NamedTuple):
    """Summary of a run.

    Attributes:
        steps: Number of steps; fewer than asked for if the stream ended.
        mean_loss: Mean of the finite losses; NaN if there are none.
        last_loss: Loss of the last step; NaN if there was none.
    """

    steps: int
    mean_loss: float
    last_loss: float
