"""The linear system of influence balancing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.arguments import mismatch, require_count
from uoro.errors import SettingError, spelled
from uoro.models.model import Arrays


@dataclass(frozen=True)
class InfluenceBalancing:
    """A linear system in which short truncation spans point the wrong way.

    ``s_{t+1} = A s_t + (θ, …, θ, -θ, …, -θ)``, A with one half on the diagonal and just above
    it; the loss is ``½ (s¹_{t+1} - 1)²``. A unit far from the first acts on it late, so that
    short spans see only the plus signs: the stationary ``ds¹/dθ`` is ``2 (units - 2 minus)``,
    while truncated sums stay positive for many steps.

    The step ignores the items of the stream.

    Args:
        units: n, the number of units; default 23.
        minus: Number of units, counted from the last, that get ``-θ``; default 13.

    Raises:
        SettingError: Unless ``units >= 1`` and ``0 <= minus <= units``, both integers.

    References:
        Section 4 and figure 2a of the paper: 23 units, 13 minus.
    """

    units: int = 23
    minus: int = 13

    def __post_init__(self) -> None:
        call = f"InfluenceBalancing(units={spelled(self.units)}, minus={spelled(self.minus)})"
        units = require_count(call, "units", self.units)
        if require_count(call, "minus", self.minus, least=0) > units:
            expected = f"an integer <= units ({units})"
            raise SettingError(mismatch(call, "minus", expected, spelled(self.minus)))

    @property
    def solution(self) -> float:
        """The θ at which the stationary first unit is 1."""
        return 1.0 / (2.0 * (self.units - 2 * self.minus))

    def init(self, generator: np.random.Generator) -> tuple[Arrays, Any]:
        """Return zero params and a zero state; the generator is not used."""
        return {"theta": np.zeros(())}, np.zeros(self.units)

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        """Compute one step: ``(next_state, loss)``."""
        plus, theta = self.units - self.minus, params["theta"]
        later = xp.concatenate([state[1:], 0.0 * state[:1]])
        # Adding to zeros of the state's own kind spreads θ over the units in any framework.
        push = xp.concatenate([0.0 * state[:plus] + theta, 0.0 * state[plus:] - theta])
        next_state = 0.5 * (state + later) + push
        return next_state, 0.5 * (next_state[0] - 1.0) ** 2
