"""A task: a model, a stream, an optimizer, and the unit of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.learning.stream import BlockStream
from uoro.models import Model
from uoro.optimizer import Optimizer
from uoro.tasks.forecast import Forecast


@dataclass(frozen=True)
class Task:
    """Everything that a run needs besides backend, estimator and seed.

    Attributes:
        name: Name on the command line.
        title: Title of a figure, one line.
        model: The model.
        stream: A function from a seed to the stream, from its beginning; items are host arrays.
            The seed determines every item of a synthetic stream.
        optimizer: The optimizer with its schedule.
        loss_name: Name of the loss, with its unit.
        loss_scale: Factor from the loss of the model to that unit.
        solved_below: Loss below which the task counts as solved, in that unit; ``None`` if none.
        entropy_rate: Smallest mean loss of any predictor, in that unit; ``None`` if unknown.
        settings: Settings of the task, for the record.
        alphabet: Symbols in the order of their numbers; ``None`` for other tasks.
        forecast: What is predicted ahead of time; ``None`` for other tasks.
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
    forecast: Forecast | None = None

    def example(self) -> Any:
        """Return an item like those of the stream; nothing is read where the stream may wait."""
        if self.alphabet is not None:
            return {"symbol": np.int32(0), "target": np.int32(0)}
        if self.forecast is not None:
            return self.forecast.example()
        items = self.stream(0).take(1)
        return (
            items[0]
            if isinstance(items, np.ndarray)
            else {name: leaf[0] for name, leaf in items.items()}
        )

    def dynamics(self, backend: Backend) -> Dynamics[Any, Any, Any]:
        """Return the model on a backend."""
        transition = partial(self.model.transition, backend.xp)
        return backend.dynamics(transition, has_aux=self.forecast is not None)
