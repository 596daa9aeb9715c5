"""``estimator="auto"``: the place of an estimator that the first item of a stream decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from uoro.errors import SettingError
from uoro.estimator import Guarantee


@dataclass(frozen=True)
class Auto:
    """The place of an estimator that the first item of a stream decides; see `choose`.

    Exact `BlockRTRL` where units do not move each other, exact `RTRL` of a small model,
    ``KroneckerSum(2)`` where it is affordable, and ``JointUORO(4)`` of a large model. Within
    `Streams` the choice is for one stream.
    """

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"unbiased"``: all that may be chosen are, or exact."""
        return "unbiased"

    def init(self, *given: Any, **named: Any) -> NoReturn:
        """Raise: nothing is chosen yet."""
        _refuse("init")

    def draw(self, *given: Any, **named: Any) -> NoReturn:
        """Raise: nothing is chosen yet."""
        _refuse("draw")

    def step(self, *given: Any, **named: Any) -> NoReturn:
        """Raise: nothing is chosen yet."""
        _refuse("step")


def _refuse(method: str) -> NoReturn:
    raise SettingError(
        f"Auto.{method}(...): expected an estimator, got one that is still to be chosen. Try "
        "choose(dynamics, params, state, inputs).estimator."
    )
