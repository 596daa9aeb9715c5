"""The task of influence balancing: a parameter that helps soon and hurts later."""

from __future__ import annotations

from typing import Any

import numpy as np

from uoro.learning.optimizers import SGD
from uoro.learning.stream import Taking, require_number
from uoro.models import InfluenceBalancing
from uoro.schedules import inverse_sqrt
from uoro.tasks.task import Task


class Idle(Taking):
    """An endless stream of items that carry nothing."""

    def __init__(self) -> None:
        self._taken = 0

    def _one_of(self, items: Any) -> Any:
        """Return the first item of a stack."""
        return items[0]

    @property
    def position(self) -> int:
        """Number of items taken."""
        return self._taken

    def seek(self, position: Any) -> None:
        """Continue after a number of items.

        Raises:
            StreamError: If the position is no number of items.
        """
        self._taken = require_number("Idle", position, "a number of items")

    def take(self, count: int) -> Any:
        """Return a stack of ``count`` items."""
        self._taken += count
        return np.zeros(count, np.int32)


def influence_balancing(*, units: int = 23, minus: int = 13, learning_rate: float = 1e-3) -> Task:
    """Return the task of section 4 of the paper: SGD with ``η/(1+sqrt(t))``.

    Args:
        units: Number of units; default 23.
        minus: Number of units that the parameter enters negatively; default 13.
        learning_rate: η, the learning rate at t = 0; default 1e-3.
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
