"""One protocol for metrics: a function of a step and a dict of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from uoro.arguments import require_callable
from uoro.learning.carry import Metrics


class OnMetrics(Protocol):
    """What metrics are handed to; any function ``on_metrics(step, metrics)`` is one.

    `uoro.training.Run.go` calls it once a line of metrics, `reporting` once a chunk of a learner,
    and a loop of your own whenever it likes. `TensorBoardWriter.on_metrics` and
    `WandbWriter.on_metrics` are of this kind. An error that it raises ends the run.
    """

    def __call__(self, step: int, metrics: Mapping[str, Any], /) -> None:
        """Take the metrics of a step.

        Args:
            step: Number of updates.
            metrics: Numbers by name, such as ``"loss"``; NaN and infinities among them.
        """
        ...


def reporting(*on_metrics: OnMetrics) -> Callable[[Metrics], None]:
    """Return a function for ``Learner.run(stream, report=...)`` that hands on metrics.

    They are the mean ``"loss"`` of a chunk of steps, and the number of losses left out of it as
    ``"nonfinite"``.

    Args:
        *on_metrics: Functions of a step and a dict.

    Raises:
        SettingError: If one is no function.

    Example:
        >>> from itertools import repeat
        >>> from uoro import SGD, UORO, Learner, load_backend
        >>> from uoro.training import reporting
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> dynamics = backend.dynamics(lambda w, s, x: (w * s + x, xp.sum(s) ** 2))
        >>> learner = Learner(dynamics, UORO(), SGD(1e-9), xp.array(0.5), xp.zeros(1))
        >>> report = reporting(lambda step, metrics: print(step, round(metrics["loss"], 3)))
        >>> _ = learner.run(repeat(1.0), steps=4, chunk=2, report=report)
        2 0.5
        4 2.656
    """
    for each in on_metrics:
        require_callable("reporting(...)", "on_metrics", each, "a function of a step and a dict")

    def report(metrics: Metrics) -> None:
        finite = [loss for loss in metrics.losses if math.isfinite(loss)]
        mean = math.fsum(finite) / len(finite) if finite else math.nan
        numbers = {"loss": mean, "nonfinite": len(metrics.losses) - len(finite)}
        for each in on_metrics:
            each(metrics.first_step + len(metrics.losses), numbers)

    return report
