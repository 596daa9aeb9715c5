"""Wrong estimators whose steps are right, and whose gradients are wrong when asked for later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uoro.estimator import Guarantee, Sampler
from uoro.estimators import UORO
from uoro.estimators.streams import Streams
from uoro.prediction import Prediction


@dataclass(frozen=True)
class WrongLater:
    """Algorithm 1 with another late gradient; its `step` is right.

    Args:
        name: The mistake, in words.
        late: Gradient ``(dynamics, params, carry, state, inputs, cotangent)`` of what the step
            received.
        at_once: Whether the prediction returns the same wrong gradient.
    """

    name: str
    late: Callable[..., Any]
    at_once: bool = False

    @property
    def guarantee(self) -> Guarantee:
        """Declare the estimator unbiased."""
        return "unbiased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Any:
        """Build the zero pair."""
        return UORO().init(dynamics, params, state)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw ν."""
        return UORO().draw(sampler, state)

    def step(self, *arguments: Any) -> Any:
        """Compute a step of Algorithm 1."""
        return UORO().step(*arguments)

    def advance(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> Any:
        """Compute a step of Algorithm 1, perhaps with another gradient."""
        now = params, carry, state, inputs
        after, following, made = UORO().advance(dynamics, *now, signs)
        if self.at_once:

            def wrong(cotangent: Any) -> Any:
                return self.late(dynamics, *now, cotangent)

            made = Prediction(dynamics.backend, dynamics.forward(params, state, inputs), wrong)
        return after, following, made

    def gradient(self, *arguments: Any) -> Any:
        """Compute the wrong gradient."""
        return self.late(*arguments)


def _new_pair(
    dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, cotangent: Any
) -> Any:
    signs = dynamics.backend.map(lambda leaf: leaf * 0 + 1, state)
    after, _, _ = UORO().advance(dynamics, params, carry, state, inputs, signs)
    return UORO().gradient(dynamics, params, after, state, inputs, cotangent)


def _leaf_dropped(
    dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, cotangent: Any
) -> Any:
    backend = dynamics.backend
    last = len(backend.named_leaves(cotangent)) - 1
    numbers = iter(range(last + 1))
    kept = backend.map(lambda leaf: leaf * (0.0 if next(numbers) == last else 1.0), cotangent)
    return UORO().gradient(dynamics, params, carry, state, inputs, kept)


def _not_immediate(
    dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, cotangent: Any
) -> Any:
    whole = UORO().gradient(dynamics, params, carry, state, inputs, cotangent)
    immediate, _ = dynamics.vjp(params, state, inputs)[1](None, cotangent)
    return dynamics.backend.combine((1.0, whole), (-1.0, immediate))


@dataclass(frozen=True)
class AveragedStreams(Streams):
    """Streams whose late gradients are averaged, where the cotangents have the average already."""

    name: str = "late gradients of streams averaged"

    def gradient(self, dynamics: Any, params: Any, *stacks: Any) -> Any:
        """Compute the mean over streams in place of the sum."""
        whole = super().gradient(dynamics, params, *stacks)
        return dynamics.backend.combine((1.0 / self.count, whole))


WRONG_PREDICTIONS: tuple[Any, ...] = (
    WrongLater("late gradient from the new pair", _new_pair),
    WrongLater("cotangent of one leaf dropped", _leaf_dropped, at_once=True),
    WrongLater("late gradient without the immediate term", _not_immediate),
    AveragedStreams(UORO(), 2),
)
