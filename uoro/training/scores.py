"""How good predictions were: by target, in its own unit, beside the last known value."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.monitors.monitor import prequential
from uoro.tasks.forecast import Forecast
from uoro.training.meter import Meter

KINDS = ("rmse", "mae", "persistence")
"""Root of the mean squared error, mean error, and the first of these of the last known value."""
LAST = ("true", "predicted")

Numbers = np.ndarray[Any, np.dtype[np.float64]]


class Scores:
    """Errors of predictions as they were made, over the last rows and over the whole run.

    Persistence is the prediction that a target keeps its last known value. A row without a target
    counts for nothing.

    Args:
        forecast: What is predicted.
        recent: Number of last rows, about, that the recent errors average over.

    Attributes:
        last: For the last rows, true and predicted value of each target; NaN where not known.
    """

    def __init__(self, forecast: Forecast, recent: int) -> None:
        self.forecast = forecast
        self._meters = {
            (name, kind): Meter(1, 1.0, recent) for name in forecast.targets for kind in KINDS
        }
        self._relative = Meter(1, 1.0, recent)
        self.last: Numbers = np.full((0, len(LAST), len(forecast.targets)), np.nan)

    def take(self, backend: Backend, carry: Any, rows: int, span: int = 1) -> list[float]:
        """Add the last rows of a carry.

        Args:
            backend: Backend of the carry.
            carry: Carry of `uoro.monitors.prequential.Prequential`, or of what surrounds it.
            rows: Number of rows since the last call.
            span: Number of rows of a loss.

        Returns:
            The losses of the steps, of the known targets alone; NaN where none is known.
        """
        judged = np.asarray(backend.to_host(prequential(carry).judged), np.float64)
        judged = judged[len(judged) - rows :]
        predicted, target, weight, change, scale, base = (judged[:, i] for i in range(6))
        known = weight > 0
        unknown = np.where(known, 0.0, np.nan)
        error = scale * predicted - change + unknown
        for i, name in enumerate(self.forecast.targets):
            self._meters[name, "rmse"].add((error[:, i] ** 2).tolist())
            self._meters[name, "mae"].add(np.abs(error[:, i]).tolist())
            self._meters[name, "persistence"].add(((change + unknown)[:, i] ** 2).tolist())
        self._relative.add(_mean(target**2, known, 1))
        value = np.where(known, base + change, np.nan)
        # A scale of zero is that of a target of which nothing was known.
        guess = np.where(scale > 0, base + scale * predicted, np.nan)
        last = np.concatenate([self.last, np.stack([value, guess], axis=1)])
        self.last = last[-self.forecast.shown :]
        return _mean((predicted - target) ** 2, known, span)

    @property
    def persistence(self) -> float:
        """Recent loss of the last known value, in the unit of the run's loss."""
        return self._relative.recent

    def recent(self) -> dict[str, list[float]]:
        """Return, by target, the recent error and that of the last known value, in its unit."""
        return {
            name: [_unit("rmse", self._meters[name, k].recent) for k in ("rmse", "persistence")]
            for name in self.forecast.targets
        }

    def measure(self) -> dict[str, float]:
        """Return recent errors, and with ``_all`` those of the whole run, by names for a log."""
        found = {"persistence": self._relative.recent, "persistence_all": self._relative.cumulated}
        for (name, kind), meter in self._meters.items():
            found[f"{name}/{kind}"] = _unit(kind, meter.recent)
            found[f"{name}/{kind}_all"] = _unit(kind, meter.cumulated)
        return found

    def lines(self) -> list[str]:
        """Return the errors in words, one line for each target."""
        lines = []
        for name in self.forecast.targets:
            own, last = (self._meters[name, kind] for kind in ("rmse", "persistence"))
            shown = [_unit("rmse", m) for m in (own.recent, last.recent)]
            whole = [_unit("rmse", m) for m in (own.cumulated, last.cumulated)]
            lines.append(
                f"{name}: error {shown[0]:.4g} recently (root of the mean square), persistence "
                f"{shown[1]:.4g}; of all rows {whole[0]:.4g}, persistence {whole[1]:.4g}"
            )
        return lines

    def export(self) -> dict[str, Any]:
        """Return everything, as JSON holds it."""
        return {
            "meters": [meter.export() for meter in (*self._meters.values(), self._relative)],
            "last": base64.b64encode(self.last.astype("<f8").tobytes()).decode(),
        }

    def restore(self, saved: Any) -> None:
        """Load what `export` returned.

        Raises:
            ValueError: If ``saved`` is anything else; or `TypeError`, `KeyError` and the like.
        """
        meters = [*self._meters.values(), self._relative]
        for meter, kept in zip(meters, saved["meters"], strict=True):
            meter.restore(kept)
        last = np.frombuffer(base64.b64decode(saved["last"]), "<f8")
        self.last = last.reshape(-1, len(LAST), len(self.forecast.targets)).copy()


def _mean(errors: Numbers, known: Any, span: int) -> list[float]:
    """Return the sum over each span of rows of the mean over known targets; NaN if none is."""
    errors, known = (a.reshape(-1, span * a.shape[1]) for a in (errors, known))
    count = known.sum(axis=1)
    total = np.where(known, errors, 0.0).sum(axis=1)
    mean: Numbers = np.where(count > 0, span * total / np.maximum(count, 1), np.nan)
    return [float(one) for one in mean]


def _unit(kind: str, mean: float) -> float:
    """Return a mean in the unit of the target."""
    return mean if kind == "mae" else math.sqrt(mean)
