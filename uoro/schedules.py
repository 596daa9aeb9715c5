"""Learning rates as functions of time t, the number of stream items seen so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from uoro.arguments import require_number
from uoro.errors import spelled

Schedule: TypeAlias = Callable[[Any], Any]
"""A function of the time t, an integer that may be traced, that returns the learning rate."""


def _require_rate(call: str, learning_rate: float) -> float:
    return require_number(
        call, "learning rate", learning_rate, "a positive, finite number", lambda x: x > 0
    )


def _require_decay(call: str, decay: float) -> float:
    return require_number(call, "decay", decay, "a finite number >= 0", lambda x: x >= 0)


def constant(learning_rate: float) -> Schedule:
    """Return the schedule of a constant learning rate η.

    Raises:
        SettingError: If the learning rate is not positive and finite.
    """
    return as_schedule(learning_rate, call=f"constant({spelled(learning_rate)})")


def inverse_sqrt(learning_rate: float, decay: float = 1.0) -> Schedule:
    """Return the schedule ``η / (1 + α sqrt(t))``.

    The paper uses α = 1 for influence balancing (section 4), and α = 0.03 and 0.015 with Adam for
    its next-character tasks.

    Args:
        learning_rate: η, the learning rate at t = 0.
        decay: α, default 1.

    Raises:
        SettingError: If η is not positive, α is negative, or one of them is not finite.
    """
    call = f"inverse_sqrt({spelled(learning_rate)}, {spelled(decay)})"
    learning_rate, decay = _require_rate(call, learning_rate), _require_decay(call, decay)
    return lambda t: learning_rate / (1.0 + decay * t**0.5)


def inverse(learning_rate: float, decay: float) -> Schedule:
    """Return the schedule ``η / (1 + a t)``; the paper uses it for its copy task (figure 1c).

    Args:
        learning_rate: η, the learning rate at t = 0.
        decay: a.

    Raises:
        SettingError: If η is not positive, a is negative, or one of them is not finite.
    """
    call = f"inverse({spelled(learning_rate)}, {spelled(decay)})"
    learning_rate, decay = _require_rate(call, learning_rate), _require_decay(call, decay)
    return lambda t: learning_rate / (1.0 + decay * t)


def as_schedule(learning_rate: float | Schedule, *, call: str) -> Schedule:
    """Return a schedule: a number becomes a constant schedule, a schedule is returned as it is.

    Args:
        learning_rate: A number or a schedule.
        call: The call, as the user wrote it.

    Raises:
        SettingError: If the learning rate is neither a schedule nor a positive number.
    """
    if callable(learning_rate):
        return learning_rate
    number = _require_rate(call, learning_rate)
    return lambda t: number


def learning_rate_at(learning_rate: float | Schedule, time: Any) -> Any:
    """Return the learning rate at time t, given a checked number or a schedule."""
    return learning_rate(time) if callable(learning_rate) else float(learning_rate)
