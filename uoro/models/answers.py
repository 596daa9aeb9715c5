"""A model that answers with a number when it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.arguments import require_kind
from uoro.models.layers import uniform_bias, uniform_map
from uoro.models.model import Arrays
from uoro.models.recurrent import SymbolModel


@dataclass(frozen=True)
class AnswerModel:
    """The layers of a model of symbols, with a readout of one number.

    An item is ``{"symbol": i, "target": j}``, two integers. The loss is the squared error of the
    answer where the target is not zero, and zero elsewhere.

    Args:
        symbols: Model whose layers read the symbols.

    Raises:
        SettingError: If ``symbols`` is no `SymbolModel`.
    """

    symbols: SymbolModel

    def __post_init__(self) -> None:
        require_kind("AnswerModel", "symbols", self.symbols, SymbolModel, "a SymbolModel")

    def init(self, generator: np.random.Generator) -> tuple[Arrays, Any]:
        """Return random params of layers and readout, and the initial state.

        Raises:
            SettingError: If the generator is no NumPy generator.
        """
        params, state = self.symbols.init(generator)
        units = self.symbols.cells[-1].units
        readout = {
            "map": uniform_map(generator, 1, units),
            "bias": uniform_bias(generator, 1, units),
        }
        return params | {"readout": readout}, state

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        """Compute one step: ``(next_state, loss)``."""
        next_state, answer = self.symbols.predict(xp, params, state, inputs["symbol"])
        asked = inputs["target"] ** 2
        return next_state, xp.sum(asked * (answer - inputs["target"]) ** 2)
