"""What a task predicts ahead of time, for whoever judges it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.estimator import Estimator
from uoro.monitors.prequential import JUDGED, Prequential


@dataclass(frozen=True)
class Forecast:
    """Predictions of a task, some rows ahead.

    Attributes:
        targets: Names of what is predicted.
        horizon: Number of rows ahead.
        shown: Number of last rows that a figure shows: a day, where the time of the rows is known.
        inputs: Number of inputs of the model.
    """

    targets: tuple[str, ...]
    horizon: int
    shown: int
    inputs: int

    def example(self) -> dict[str, Any]:
        """Return an item of made-up numbers, like those of the stream."""
        generator, one = np.random.default_rng(0), np.ones(len(self.targets))
        both = {name: generator.standard_normal(self.inputs) for name in ("inputs", "newest")}
        return both | dict.fromkeys(JUDGED[1:], one)

    def judged(self, estimator: Estimator, rows: int) -> Prequential:
        """Return an estimator around another, whose loss is that of predictions as they were made.

        Args:
            estimator: Estimator of the run.
            rows: Number of rows between two looks at its carry, at most.
        """
        return Prequential(estimator, self.horizon, len(self.targets), rows)
