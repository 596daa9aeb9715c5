"""What a task predicts ahead of time, for whoever judges it."""

from __future__ import annotations

from dataclasses import dataclass

from uoro.estimator import Estimator
from uoro.monitors.prequential import Prequential


@dataclass(frozen=True)
class Forecast:
    """Predictions of a task, some rows ahead.

    Attributes:
        targets: Names of what is predicted.
        horizon: Number of rows ahead.
        shown: Number of last rows that a figure shows: a day, where the time of the rows is known.
    """

    targets: tuple[str, ...]
    horizon: int
    shown: int

    def judged(self, estimator: Estimator, rows: int) -> Prequential:
        """Return an estimator around another, whose loss is that of predictions as they were made.

        Args:
            estimator: Estimator of the run.
            rows: Number of rows between two looks at its carry, at most.
        """
        return Prequential(estimator, self.horizon, len(self.targets), rows)
