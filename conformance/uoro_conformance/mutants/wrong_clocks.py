"""Wrong estimators that are right for a while, or most of the time."""

from __future__ import annotations

from typing import Any

from uoro_conformance.mutants.variants import Step, Variant, old_pair


def _late(now: Step, old: Any, new: Any) -> Any:
    """Shorten the tangent by a percent from step 20 on."""
    factor = now.backend.xp.where(now.carry.clock >= 20, 0.99, 1.0)
    return now.backend.combine((factor, new[0])), new[1]


def _seventh(now: Step, old: Any, new: Any) -> Any:
    """Shorten the tangent by a percent at each seventh step."""
    factor = now.backend.xp.where(now.carry.clock % 7 == 6, 0.99, 1.0)
    return now.backend.combine((factor, new[0])), new[1]


def _gradient(now: Step, new: Any, state_gradient: Any) -> Any:
    """Leave the part of the gradient through the state out from step 30 on."""
    factor = now.backend.xp.where(now.carry.clock >= 30, 0.0, 1.0)
    return now.backend.combine((factor, old_pair(now, new, state_gradient)))


CLOCKS: tuple[Variant, ...] = (
    Variant("a percent short from step 20 on", keep=_late),
    Variant("a percent short at each seventh step", keep=_seventh),
    Variant("only the immediate gradient from step 30 on", through=_gradient),
)
"""All are refused by ``exact/horizon``."""
