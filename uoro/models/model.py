"""A model written once: initial numbers from NumPy, and a transition for any array namespace."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, Any]


class Model(Protocol):
    """A recurrent model with its readout and loss, for every backend alike.

    Models are written against the array functions that ``autograd.numpy``, ``torch`` and
    ``jax.numpy`` spell the same way, given as ``xp``; with plain ``numpy`` they accept complex
    params, which makes the complex step an oracle for their derivatives.
    """

    def init(self, generator: np.random.Generator) -> tuple[Arrays, Any]:
        """Draw the params and make the initial state, as NumPy arrays in float64.

        Args:
            generator: Equal generators give equal bits, whatever the backend.
        """
        ...

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        """Take one step: ``(next_state, loss)``."""
        ...
