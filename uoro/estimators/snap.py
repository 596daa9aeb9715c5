"""SnAp-1: exact RTRL, but of the influence of each entry of the params on its own unit alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.algebra import basis, coordinates, working_precision
from uoro.arguments import mismatch, require_count
from uoro.derivatives.locality import Locality
from uoro.dynamics import Dynamics, Inputs, Moment, Params, State
from uoro.errors import SettingError, spelled
from uoro.estimator import Guarantee
from uoro.estimators.local_influence import (
    Local,
    LocalInfluence,
    advance_local,
    blocks_of,
    gradient_of,
    pull_rows,
    push_rows,
)
from uoro.prediction import Prediction


@dataclass(frozen=True)
class SnAp(Local):
    """Sparse n-step approximation of RTRL, of one step, on each unit by itself. Biased.

    Carries the influence of an entry of the params on the b coordinates of the unit that the entry
    moves within a step, in the recursion of `BlockRTRL` with the exact blocks of J. What a unit
    passes on to other units is dropped. The gradient is therefore quiet and cheap, and wrong where
    memory is kept by several units together: on influence balancing it diverges, and what units
    far apart do to each other is not learnt (``docs/local.md``). It is exact where `BlockRTRL` is.

    An entry that moves several units within a step, as in the reset gate of a GRU or in the lower
    of two layers, is carried for the units of its own coordinate if there is one, and else not at
    all. Menick et al. keep such entries, at n numbers for each.

    Cost of a step: n JVPs and b VJPs, and b² products with the params; b JVPs where no units mix.

    Args:
        order: Number of steps; 1 is all that there is.

    Raises:
        SettingError: If the order is not 1.

    References:
        Menick, Elsen, Evci, Osindero, Simonyan & Graves, "A practical sparse approximation for
        real time recurrent learning", 2020, arXiv:2006.07232.
    """

    order: int = 1

    def __post_init__(self) -> None:
        call = f"SnAp({spelled(self.order)})"
        require_count(call, "order", self.order)
        if self.order != 1:
            hint = "Of higher orders the influence is nearly dense: try KroneckerSum(2), or RTRL()."
            raise SettingError(mismatch(call, "order", "1", spelled(self.order), hint))

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"biased"``."""
        return "biased"

    def advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: LocalInfluence,
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[LocalInfluence, State, Prediction]:
        """Advance the influence; the loss may come later."""
        backend = dynamics.backend
        locality = self._accepted(dynamics, params, state, inputs)
        self._require_carry(locality, carry)
        point = Moment(params, state, inputs)
        selectors = locality.selectors(backend, working_precision(backend, (state, params)))
        outcome, pullback = dynamics.vjp(*point)
        if locality.mixes:
            units = coordinates(backend, basis(backend, state))
            blocks = _diagonals(backend.xp, locality, push_rows(dynamics, point, units))
        else:
            blocks = blocks_of(push_rows(dynamics, point, selectors), locality)
        fresh = pull_rows(backend, pullback, state, selectors)
        after = advance_local(backend, locality, blocks, carry, fresh)

        def gradient(cotangent: Any) -> Any:
            return gradient_of(backend, locality, params, carry, pullback, cotangent)

        return after, outcome.next_state, Prediction(backend, outcome, gradient)


def _diagonals(xp: Any, locality: Locality, pushed: Any) -> dict[tuple[int, int], Any]:
    """Return D, from the JVPs of all unit tangents."""
    columns = [colour.columns for colour in locality.colours]
    return {(j, k): xp.diagonal(pushed[columns[k], columns[j]]) for j, k in locality.own_pairs}
