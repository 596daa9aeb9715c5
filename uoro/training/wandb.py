"""Metrics for Weights & Biases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from uoro.errors import MissingFrameworkError


class WandbWriter:
    """Writer of metrics to a run of Weights & Biases.

    Args:
        **options: Arguments of ``wandb.init``, such as ``project`` and ``mode="offline"``.

    Raises:
        MissingFrameworkError: If wandb is not installed.
    """

    def __init__(self, **options: Any) -> None:
        try:
            wandb: Any = import_module("wandb")
        except ModuleNotFoundError as error:
            raise MissingFrameworkError(
                f"WandbWriter(...): the module '{error.name}' is not installed. Try: pip install "
                "wandb."
            ) from error
        self._run: Any = wandb.init(**options)

    def on_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the finite numbers of a step.

        Args:
            step: Number of updates.
            metrics: Numbers by name; anything else is left out.
        """
        numbers = {
            name: float(value)
            for name, value in metrics.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        finite = {name: number for name, number in numbers.items() if math.isfinite(number)}
        if finite:
            self._run.log(finite, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()

    def __enter__(self) -> WandbWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
