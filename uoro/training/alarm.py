"""Detect a pair that diverges."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from uoro.estimator import ParallelEstimator
from uoro.learning.divergence import PAIR, Level
from uoro.learning.learner import Learner
from uoro.monitors import spectral_radius
from uoro.training.problem import Problem


class Divergence(NamedTuple):
    """A pair that diverges.

    Attributes:
        factor: Norm of the influence estimate over the median of the norms before.
        message: The same in words, with a way out.
    """

    factor: float
    message: str


class PairAlarm:
    """Compare the norm of the influence estimate with its history.

    While the hidden state forgets, ‖s̃‖ ‖θ̃‖ fluctuates about a constant level. Once the spectral
    radius of the transition exceeds 1, the norm grows by a factor at every step.
    """

    def __init__(self) -> None:
        self._level = Level(PAIR)

    def look(self, norm: float) -> float | None:
        """Add a norm to the history.

        Returns:
            Norm over the median of those before, if it exceeds `uoro.learning.divergence.PAIR`.
        """
        return self._level.look(norm)

    def look_at(
        self, arrays: dict[str, Any], problem: Problem, learner: Learner, newest: Any
    ) -> Divergence | None:
        """Add the present norm to the history.

        Args:
            arrays: Arrays of the learner, from `uoro.Learner.export`.
            problem: Problem of the run.
            learner: Learner of the run.
            newest: Newest item of the stream, at which the spectral radius is estimated, if any.

        Returns:
            Divergence, or ``None`` if the pair does not diverge or there is no pair.
        """
        norm = influence_norm(arrays)
        factor = None if norm is None else self.look(norm)
        if factor is None:
            return None
        radius = ""
        if newest is not None and not isinstance(learner.estimator, ParallelEstimator):
            found = spectral_radius(
                problem.dynamics,
                learner.params,
                learner.state,
                problem.backend.from_host(newest),
            ).radius
            radius = f" The spectral radius of the transition is about {float(found):.3g}."
        return Divergence(
            factor,
            f"the pair diverges: its norm is {factor:.3g} times the usual one.{radius} A hidden "
            "state that does not forget makes it grow. Try a smaller learning rate, or reset the "
            "pair.",
        )


def influence_norm(arrays: dict[str, Any]) -> float | None:
    """Compute the norm of the influence estimate from the arrays of a learner.

    Args:
        arrays: Arrays from `uoro.Learner.export`.

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
    room, _, own = name.partition("/")
    # Within shadows, the estimator's own carry is carry/estimator, and so on.
    while own.startswith("estimator/"):
        own = own.removeprefix("estimator/")
    return room in ("carry", "memory") and own.partition("/")[0] == what


def _norm(array: Any) -> float:
    largest = float(np.abs(array).max(initial=0.0))
    if not 0.0 < largest < math.inf:
        return largest
    return largest * float(np.linalg.norm((array / largest).astype(np.complex128).reshape(-1)))
