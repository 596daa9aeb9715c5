"""Learning rates as functions of time, t counting items of the stream from 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from uoro.arguments import require_number
from uoro.errors import spelled

Schedule: TypeAlias = Callable[[Any], Any]
"""From the time t, an integer that may be traced, to the learning rate."""


def _require_rate(call: str, learning_rate: float) -> float:
    return require_number(
        call, "learning rate", learning_rate, "a positive, finite number", lambda x: x > 0
    )


def _require_decay(call: str, decay: float) -> float:
    return require_number(call, "decay", decay, "a finite number >= 0", lambda x: x >= 0)


def constant(learning_rate: float) -> Schedule:
    """Keep the rate η.

    Raises:
        SettingError: If it is not positive and finite.
    """
    return as_schedule(learning_rate, call=f"constant({spelled(learning_rate)})")


def inverse_sqrt(learning_rate: float, decay: float = 1.0) -> Schedule:
    """Decay as ``η / (1 + α sqrt(t))``.

    With α = 1 it is the paper's schedule for influence balancing (section 4); with α = 0.03
    and 0.015, and Adam, that of its next-character tasks.

    Raises:
        SettingError: If the rate is not positive, the decay negative, or one not finite.
    """
    call = f"inverse_sqrt({spelled(learning_rate)}, {spelled(decay)})"
    learning_rate, decay = _require_rate(call, learning_rate), _require_decay(call, decay)
    return lambda t: learning_rate / (1.0 + decay * t**0.5)


def inverse(learning_rate: float, decay: float) -> Schedule:
    """Decay as ``η / (1 + a t)``, the paper's schedule for its copy task (figure 1c).

    Raises:
        SettingError: If the rate is not positive, the decay negative, or one not finite.
    """
    call = f"inverse({spelled(learning_rate)}, {spelled(decay)})"
    learning_rate, decay = _require_rate(call, learning_rate), _require_decay(call, decay)
    return lambda t: learning_rate / (1.0 + decay * t)


def as_schedule(learning_rate: float | Schedule, *, call: str) -> Schedule:
    """Read a number as the constant schedule, and leave a schedule as it is.

    Args:
        learning_rate: The number or the schedule.
        call: What was called, for the error.

    Raises:
        SettingError: If it is neither a schedule nor a positive number.
    """
    if callable(learning_rate):
        return learning_rate
    number = _require_rate(call, learning_rate)
    return lambda t: number


def learning_rate_at(learning_rate: float | Schedule, time: Any) -> Any:
    """Return the learning rate at a time, of a checked number or a schedule."""
    return learning_rate(time) if callable(learning_rate) else float(learning_rate)
