"""Notice a pair that runs away."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

import numpy as np

FACTOR = 1e3
"""By how much the norm of the estimated influence may exceed what it used to be."""
HISTORY = 16
ENOUGH = 3


class PairAlarm:
    """Compare the norm of the estimated influence with what it has been.

    ‖s̃‖ ‖θ̃‖ wanders, but about a level of its own while the state forgets. Where the state no longer
    does, as the spectral radius of its transition is above 1, it grows by a factor at every step.
    """

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=HISTORY)

    def look(self, norm: float) -> float | None:
        """Take a norm in.

        Returns:
            By what factor it exceeds the median of those before, if that is reason to worry.
        """
        before = list(self._norms)
        if math.isfinite(norm):
            self._norms.append(norm)
        if len(before) < ENOUGH or not median(before) > 0.0:
            return None
        factor = norm / median(before)
        return None if factor <= FACTOR else factor


def influence_norm(arrays: dict[str, Any]) -> float | None:
    """Give the norm of the estimated influence, from the arrays of a learner.

    Args:
        arrays: As `uoro.Learner.export` gives them.

    Returns:
        ‖s̃‖ ‖θ̃‖, of several pairs all together; ``None`` if there is no pair.
    """
    parts = [
        [array for name, array in arrays.items() if _is_part(name, what)]
        for what in ("tangent", "cotangent")
    ]
    if not all(parts):
        return None
    return math.prod(math.hypot(*(_norm(array) for array in part)) for part in parts)


def _is_part(name: str, what: str) -> bool:
    # With shadows around it, the estimator's own memory is memory/estimator, and so on.
    own = name.removeprefix("memory/")
    while own.startswith("estimator/"):
        own = own.removeprefix("estimator/")
    return own.partition("/")[0] == what and name.startswith("memory/")


def _norm(array: Any) -> float:
    largest = float(np.abs(array).max(initial=0.0))
    if not 0.0 < largest < math.inf:
        return largest
    return largest * float(np.linalg.norm((array / largest).astype(np.complex128).reshape(-1)))
