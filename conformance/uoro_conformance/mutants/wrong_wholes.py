"""Wrong estimators that use a right one as a whole, and combine or pass on results wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uoro.algebra import coordinates, mean, mix, repeat
from uoro.backend import Backend
from uoro.estimator import Estimate, Guarantee, Sampler
from uoro.estimators import UORO
from uoro.estimators.streams import Streams


@dataclass(frozen=True)
class WrongRank:
    """Two pairs whose gradients are put together wrongly.

    Args:
        name: The mistake, in words.
        how: ``"product of means"``, ``"cross"`` or ``"sum"``.
    """

    name: str
    how: str
    rank: int = 2

    @property
    def guarantee(self) -> Guarantee:
        """Declare the estimator unbiased."""
        return "unbiased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Any:
        """Build zero pairs."""
        return UORO(rank=2).init(dynamics, params, state)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw ν for each."""
        return UORO(rank=2).draw(sampler, state)

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Compute a step of rank two, and combine the pairs wrongly."""
        backend = dynamics.backend
        after, next_state, estimate = UORO(rank=2).step(
            dynamics, params, carry, state, inputs, signs
        )
        immediate, state_gradient = dynamics.vjp(params, state, inputs)[1](None, 1.0)
        lifted = backend.map(lambda leaf: leaf[None], state_gradient)
        rates = coordinates(backend, carry.tangent) @ coordinates(backend, lifted)[0]
        if self.how == "sum":
            through = mix(backend, rates, carry.cotangent)
        elif self.how == "cross":
            through = mix(backend, backend.xp.flip(rates, (0,)) / 2, carry.cotangent)
        else:
            averaged = mean(backend, carry.cotangent)
            through = backend.combine((rates.mean(), averaged))
        gradient = backend.combine((1.0, immediate), (1.0, through))
        return after, next_state, estimate._replace(gradient=gradient)


@dataclass(frozen=True)
class WrongOutcome:
    """Algorithm 1 that passes something else on than the model gave.

    Args:
        name: The mistake, in words.
        change: From the old state, the next one and the loss to what is passed on.
    """

    name: str
    change: Callable[[Backend, Any, Any, Any], tuple[Any, Any]]

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

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Compute a step, and change the outcome."""
        after, following, estimate = UORO().step(dynamics, params, carry, state, inputs, signs)
        following, loss = self.change(dynamics.backend, state, following, estimate.loss)
        return after, following, estimate._replace(loss=loss)


@dataclass(frozen=True)
class OneCotangent(Streams):
    """Streams that share one cotangent: unbiased, but noisier, and not what each is alone."""

    name: str = "streams share one cotangent"

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Compute a step, and replace every cotangent by their mean."""
        after, next_state, estimate = super().step(dynamics, params, carry, state, inputs, signs)
        shared = mean(dynamics.backend, after.cotangent)
        after = after._replace(cotangent=repeat(dynamics.backend, shared, self.count))
        return after, next_state, estimate
