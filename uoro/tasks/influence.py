"""Influence balancing: a parameter that helps now and hurts later."""

from __future__ import annotations

from typing import Any

import numpy as np

from uoro.learning.optimizers import SGD
from uoro.learning.stream import require_number
from uoro.models import InfluenceBalancing
from uoro.schedules import inverse_sqrt
from uoro.tasks.task import Task


class Idle:
    """An endless stream of items that carry nothing."""

    def __init__(self) -> None:
        self._taken = 0

    def __iter__(self) -> Idle:
        return self

    def __next__(self) -> Any:
        return self.take(1)[0]

    @property
    def position(self) -> int:
        """How many were taken."""
        return self._taken

    def seek(self, position: Any) -> None:
        """Go on after so many.

        Raises:
            StreamError: If that is not a number of items.
        """
        self._taken = require_number("Idle", position, "a number of items")

    def take(self, count: int) -> Any:
        """Give ``count`` of them."""
        self._taken += count
        return np.zeros(count, np.int32)


def influence_balancing(*, units: int = 23, minus: int = 13, learning_rate: float = 1e-3) -> Task:
    """Make the task of section 4 of the paper, with SGD at rate ``η/(1+sqrt(t))``.

    Args:
        units: How many units there are.
        minus: How many of them the parameter enters negatively.
        learning_rate: η.
    """
    return Task(
        name="influence-balancing",
        title=f"Influence balancing, {units} units, {minus} minus",
        model=InfluenceBalancing(units, minus),
        stream=lambda seed: Idle(),
        optimizer=SGD(inverse_sqrt(learning_rate)),
        loss_name="loss",
        loss_scale=1.0,
        solved_below=1e-6,
        entropy_rate=None,
        settings={
            "units": units,
            "minus": minus,
            "learning_rate": learning_rate,
            "schedule": "rate/(1+sqrt(t))",
        },
    )
