"""A model of a series: what each target will have changed by, some rows ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.arguments import mismatch, require_count, require_methods
from uoro.errors import SettingError, spelled
from uoro.models.layers import uniform_map
from uoro.models.model import Arrays
from uoro.models.recurrent import Cell


@dataclass(frozen=True)
class SeriesModel:
    """A model that predicts numbers: stacked layers, and a linear readout that begins at zero.

    An item is ``{"inputs", "target", "weight"}`` and perhaps more, vectors; the loss is the squared
    error of the targets whose weight is 1, divided by the number of all targets. Third, a step
    returns the prediction. With a readout of zero that is no change, so that learning begins where
    the last known value stands.

    Args:
        cells: The layers, the lowest first.
        inputs: Number of inputs.
        targets: Number of targets.

    Raises:
        SettingError: If there is no layer, one is no `Cell`, or a number is not positive.
    """

    cells: tuple[Cell, ...]
    inputs: int
    targets: int = 1

    def __post_init__(self) -> None:
        call = f"SeriesModel(inputs={spelled(self.inputs)}, targets={spelled(self.targets)})"
        require_count(call, "inputs", self.inputs)
        require_count(call, "targets", self.targets)
        if not isinstance(self.cells, tuple) or not self.cells:
            got = spelled(self.cells)
            raise SettingError(mismatch(call, "cells", "a tuple of at least one layer", got))
        for cell in self.cells:
            require_methods(
                call, "layer", cell, ("init", "start", "step"), "a layer, such as GRU(64)"
            )

    def init(self, generator: np.random.Generator) -> tuple[Arrays, Any]:
        """Return random params of the layers, a readout of zero, and the initial state."""
        params: Arrays = {}
        fan_in = self.inputs
        for i, cell in enumerate(self.cells):
            params[str(i)] = cell.init(generator, fan_in, symbols=False)
            fan_in = cell.units
        params["readout"] = {
            "map": 0.0 * uniform_map(generator, self.targets, fan_in),
            "bias": np.zeros(self.targets),
        }
        return params, {str(i): cell.start() for i, cell in enumerate(self.cells)}

    def predict(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        """Compute the next state, and the prediction of each target."""
        signal, next_state = inputs, {}
        for i, cell in enumerate(self.cells):
            name = str(i)
            next_state[name], signal = cell.step(
                xp, params[name], state[name], signal, symbols=False
            )
        readout = params["readout"]
        return next_state, readout["map"] @ signal + readout["bias"]

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any, Any]:
        """Compute one step: ``(next_state, loss, prediction)``."""
        next_state, predicted = self.predict(xp, params, state, inputs["inputs"])
        error = inputs["weight"] * (predicted - inputs["target"]) ** 2
        return next_state, xp.sum(error) / self.targets, predicted
