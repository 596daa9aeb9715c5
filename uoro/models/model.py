"""The protocol of the bundled models: NumPy draws the params, any framework runs the step."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, Any]


class Model(Protocol):
    """A recurrent model with its readout and loss, for every backend.

    Models use only array functions that ``autograd.numpy``, ``torch`` and ``jax.numpy`` spell the
    same way; the module is passed as ``xp``. With plain ``numpy`` they accept complex params, so
    that complex-step differentiation can check their derivatives.
    """

    def init(self, generator: np.random.Generator) -> tuple[Arrays, Any]:
        """Return random params and the initial state, as NumPy arrays in float64.

        Args:
            generator: A NumPy generator; equal generators give equal bits on every backend.
        """
        ...

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> Any:
        """Compute one step: ``(next_state, loss)``, and third what a forecast predicts."""
        ...
