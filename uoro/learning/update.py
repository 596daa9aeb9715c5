"""One update as a pure function: one gradient estimate, one step of the optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

from uoro.algebra import entry, norm
from uoro.backend import Backend
from uoro.derivatives.routes import probe
from uoro.dynamics import Dynamics
from uoro.estimator import Estimate, Estimator, ParallelEstimator, Windowed
from uoro.learning.carry import Progress
from uoro.optimizer import Optimizer

ERA = 2**31
"""Number of steps that a 32-bit integer can count."""
_ERAS = 2**32 - 1


class Clock(NamedTuple):
    """The index of a step, in integers that a compiler can count with.

    Attributes:
        key: Random key of this era.
        era: Number of whole eras of `ERA` steps before the step.
        number: Number of steps since.
    """

    key: Any
    era: int
    number: Any

    @classmethod
    def at(cls, backend: Backend, key: Any, steps: int) -> Clock:
        """Return the clock of a step.

        Args:
            backend: Backend of the key.
            key: Random key of the run.
            steps: Number of steps before the step.
        """
        era, number = divmod(steps, ERA)
        if era:
            key = backend.fold(backend.fold(key, _ERAS), era)
        return cls(key, era, number)

    @property
    def room(self) -> int:
        """Number of steps left in the era."""
        return ERA - int(self.number)


@dataclass(frozen=True)
class Update:
    """One gradient estimate on one item, and one step of the optimizer.

    Attributes:
        dynamics: Model.
        estimator: Gradient estimator.
        optimizer: Optimizer.
    """

    dynamics: Dynamics[Any, Any, Any]
    estimator: Estimator
    optimizer: Optimizer

    @property
    def backend(self) -> Backend:
        """Backend of the dynamics."""
        return self.dynamics.backend

    @cached_property
    def span(self) -> int:
        """Number of items of the stream in one update."""
        return self.dynamics.span * span_of(self.estimator)

    def check(self, now: Progress, inputs: Any) -> None:
        """Check the model on the first item of what one step takes.

        Raises:
            DerivativeError: If the model cannot be differentiated.
        """
        state = now.state
        if isinstance(self.estimator, ParallelEstimator):
            state, inputs = entry(self.backend, (state, inputs), 0)
        if span_of(self.estimator) > 1:
            inputs = entry(self.backend, inputs, 0)
        probe(self.dynamics, now.params, state, inputs)

    def start(self, now: Progress, inputs: Any) -> Progress:
        """Return the progress with initial carry and optimizer state; ``inputs`` is one item."""
        return now._replace(
            carry=self.estimator.init(self.dynamics, now.params, now.state, inputs=inputs),
            optimizer=self.optimizer.init(self.backend, now.params),
        )

    def draw(self, now: Progress, clock: Clock) -> Any:
        """Draw the signs of a step."""
        drawn = self.backend.fold(clock.key, clock.number)
        return self.estimator.draw(partial(self.backend.random, drawn), now.state)

    def estimate(
        self, now: Progress, inputs: Any, signs: Any, clock: Clock
    ) -> tuple[Any, Any, Estimate]:
        """Take a step of the estimator; signs that are ``None`` are drawn."""
        if signs is None:
            signs = self.draw(now, clock)
        return self.estimator.step(self.dynamics, now.params, now.carry, now.state, inputs, signs)

    def apply(self, now: Progress, carry: Any, state: Any, gradient: Any, clock: Clock) -> Progress:
        """Take a step of the optimizer; time counts items of the stream."""
        span = self.span
        # A float, because an integer would overflow in a run of days.
        time = clock.era * (float(ERA) * span) + clock.number * float(span) + (span - 1)
        params, optimizer = self.optimizer.update(
            self.backend, gradient, now.optimizer, now.params, time
        )
        return Progress(params, state, carry, optimizer)

    def advance(
        self, now: Progress, inputs: Any, signs: Any, clock: Clock
    ) -> tuple[Progress, Estimate, Any]:
        """Take one step; return the progress, the estimate, and the norm of the gradient."""
        carry, state, estimate = self.estimate(now, inputs, signs, clock)
        after = self.apply(now, carry, state, estimate.gradient, clock)
        return after, estimate, norm(self.backend, estimate.gradient)

    def advance_chunk(
        self,
        now: Progress,
        inputs: Any,
        signs: Any,
        clock: Clock,
        indices: Any,
        bounds: tuple[Any, Any] | None = None,
    ) -> tuple[Progress, Any, Any]:
        """Take a step on each item of a stack.

        Args:
            now: Progress before the first step.
            inputs: Stack of items.
            signs: Stack of signs, or ``None`` to draw them.
            clock: Clock of the first item.
            indices: Array 0, 1, …, one entry per item.
            bounds: Index of the first item to take, and index after the last; default: all.

        Returns:
            The progress, the loss of each step, and the norm of the parameters.
        """

        def body(now: Progress, item: tuple[Any, Any, Any]) -> tuple[Progress, Any]:
            inputs, signs, index = item
            moment = clock._replace(number=clock.number + index)
            now, estimate, _ = self.advance(now, inputs, signs, moment)
            return now, estimate.loss

        now, losses = self.backend.scan(body, now, (inputs, signs, indices), bounds=bounds)
        return now, losses, norm(self.backend, now.params)


def span_of(estimator: Estimator) -> int:
    """Return how many times an estimator applies the dynamics in one step."""
    if isinstance(estimator, Windowed):
        return estimator.span
    return span_of(estimator.estimator) if isinstance(estimator, ParallelEstimator) else 1
