"""What a task is: a model, a stream, an optimizer, and how to read the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uoro.learning.stream import BlockStream
from uoro.models import Model
from uoro.optimizer import Optimizer


@dataclass(frozen=True)
class Task:
    """Everything a run needs but the backend, the estimator and the seed.

    Attributes:
        name: As on the command line.
        title: One line for a figure.
        model: The model.
        stream: Makes the stream anew, from its beginning; items are host arrays. The seed it
            takes determines every item of a synthetic stream.
        optimizer: The optimizer with its schedule.
        loss_name: What the loss is, with its unit.
        loss_scale: What to multiply the model's loss by to get it in that unit.
        solved_below: The loss under which the task counts as solved, in that unit, if known.
        entropy_rate: The least mean loss that any predictor can reach, in that unit, if known.
        settings: The choices that made this task, for the record.
        alphabet: The symbols, in the order of their numbers, of a task of symbols.
    """

    name: str
    title: str
    model: Model
    stream: Callable[[int], BlockStream]
    optimizer: Optimizer
    loss_name: str
    loss_scale: float
    solved_below: float | None
    entropy_rate: float | None
    settings: dict[str, Any]
    alphabet: str | None = None
