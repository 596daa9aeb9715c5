"""Learning rates as functions of time, t counting items of the stream from 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from uoro.errors import SettingError

Schedule: TypeAlias = Callable[[Any], Any]
"""From the time t, an integer that may be traced, to the learning rate."""


def _require_rate(call: str, rate: float) -> None:
    if not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
        raise SettingError(f"{call}: the learning rate must be positive and finite, got {rate!r}.")


def _require_decay(call: str, decay: float) -> None:
    if not 0 <= decay < float("inf"):
        raise SettingError(f"{call}: the decay must be finite and not negative, got {decay}.")


def constant(rate: float) -> Schedule:
    """Keep the rate η."""
    return as_schedule(rate, call=f"constant({rate!r})")


def inverse_sqrt(rate: float, decay: float = 1.0) -> Schedule:
    """Decay as ``η / (1 + α sqrt(t))``.

    With α = 1 it is the paper's schedule for influence balancing (section 4); with α = 0.03
    and 0.015, and Adam, that of its next-character tasks.
    """
    call = f"inverse_sqrt({rate}, {decay})"
    _require_rate(call, rate)
    _require_decay(call, decay)
    return lambda t: rate / (1.0 + decay * t**0.5)


def inverse(rate: float, decay: float) -> Schedule:
    """Decay as ``η / (1 + a t)``, the paper's schedule for its copy task (figure 1c)."""
    call = f"inverse({rate}, {decay})"
    _require_rate(call, rate)
    _require_decay(call, decay)
    return lambda t: rate / (1.0 + decay * t)


def as_schedule(rate: float | Schedule, *, call: str) -> Schedule:
    """Read a number as the constant schedule, and leave a schedule as it is.

    Args:
        rate: The number or the schedule.
        call: What was called, for the error.

    Raises:
        SettingError: If it is neither a schedule nor a positive number.
    """
    if callable(rate):
        return rate
    _require_rate(call, rate)
    return lambda t: rate
