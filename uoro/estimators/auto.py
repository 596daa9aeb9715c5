"""``estimator="auto"``: the choice of an estimator that the first item of a stream decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from uoro.arguments import mismatch, require_methods
from uoro.errors import SettingError
from uoro.estimator import Estimator, Guarantee


@dataclass(frozen=True)
class Auto:
    """The choice of an estimator by the first item of a stream; see `choose`.

    Exact `BlockRTRL` where units do not move each other, exact `RTRL` of a small model,
    ``KroneckerSum(2)`` where it is affordable, and ``JointUORO(4)`` of a large model. Within
    `Streams` the choice is for one stream. An `Auto` is no estimator: `Online`, `uoro_jax.online`,
    the learner and the command line put the chosen one in its place.
    """

    guarantee: ClassVar[Guarantee] = "unbiased"
    """All that may be chosen are unbiased, or exact."""
    needs_item: ClassVar[bool] = True


def require_estimator(call: str, estimator: object) -> Estimator:
    """Return a `uoro.Estimator`.

    Raises:
        SettingError: If a method is missing, or the estimator is still to be chosen.
    """
    if isinstance(estimator, Auto):
        got, hint = "'auto', which is still to be chosen", "choose(dynamics, params, state, inputs)"
        expected, way = "an estimator", f"Try {hint}.estimator, of uoro.estimators, or UORO()."
        raise SettingError(mismatch(call, "estimator", expected, got, way))
    expected = "a uoro.Estimator, such as UORO() or RTRL()"
    require_methods(call, "estimator", estimator, ("init", "draw", "step"), expected)
    found: Any = estimator
    made: Estimator = found
    return made
