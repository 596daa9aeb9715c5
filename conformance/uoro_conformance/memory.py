"""The precision in which an estimator keeps what it carries, which counts in every tolerance."""

from __future__ import annotations

from typing import Any

from uoro.algebra import differentiable
from uoro.backend import Backend
from uoro.derivatives.differences import UNIT as UNIT_OF_ALL
from uoro_conformance.finding import REAL, precision_of

UNIT = UNIT_OF_ALL
"""Unit roundoff of each dtype in which a pair can be kept."""

ROUNDING = {"float64": 1e4, "float32": 1e3, "float16": 64.0, "bfloat16": 16.0}
"""How many units of roundoff, relative to what was added up, count as rounding."""


def memory_precision(trial: Any, estimator: Any) -> str:
    """Return the coarsest dtype of state, params, and what the estimator carries.

    ``UORO(pair_dtype="float32")`` rounds its pair to float32 at each step: an error of that size
    is no bias.

    Raises:
        SettingError: If params or state are neither float32 nor float64.
    """
    backend, carry = trial.dynamics.backend, trial.carry_of(estimator)
    return coarsest(backend, carry, trial.state, trial.params[0])


def coarsest(backend: Backend, carry: Any, *trees: Any) -> str:
    """Return the coarsest dtype of trees in float32 or float64, and of a carry in any dtype."""
    known = {precision_of(backend, *trees)}
    for leaf in differentiable(backend, carry):
        name = str(leaf.dtype).rpartition(".")[2]
        name = REAL.get(name, name)
        if name in UNIT:
            known.add(name)
    return max(known, key=UNIT.__getitem__)
