"""One update as a pure function: what `Learner` and `Replicas` repeat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.estimator import Estimate, Estimator
from uoro.metrics import Progress
from uoro.optimizers import Optimizer


@dataclass(frozen=True)
class Update:
    """Estimate the gradient on one item, then let the optimizer step.

    Attributes:
        dynamics: The model.
        estimator: Where the gradient comes from.
        optimizer: What to do with it.
    """

    dynamics: Dynamics[Any, Any, Any]
    estimator: Estimator
    optimizer: Optimizer

    @property
    def backend(self) -> Backend:
        """The backend of the dynamics."""
        return self.dynamics.backend

    def start(self, now: Progress, inputs: Any) -> Progress:
        """Make the memories; ``inputs`` is one item, for its shape."""
        return now._replace(
            memory=self.estimator.init(self.dynamics, now.params, now.state, inputs=inputs),
            optimizer=self.optimizer.init(self.backend, now.params),
        )

    def draw(self, now: Progress, key: Any, step: Any) -> Any:
        """Draw the noise of a step."""
        drawn = self.backend.fold(key, step)
        return self.estimator.draw(partial(self.backend.random, drawn), now.state)

    def estimate(
        self, now: Progress, inputs: Any, noise: Any, key: Any, step: Any
    ) -> tuple[Any, Any, Estimate]:
        """Step the estimator; noise that is ``None`` is drawn by key and step number."""
        if noise is None:
            noise = self.draw(now, key, step)
        return self.estimator.step(self.dynamics, now.params, now.memory, now.state, inputs, noise)

    def apply(self, now: Progress, memory: Any, state: Any, gradient: Any, step: Any) -> Progress:
        """Step the optimizer; time counts items of the stream."""
        time = (step + 1) * self.dynamics.span - 1
        params, optimizer = self.optimizer.update(
            self.backend, now.params, gradient, now.optimizer, time
        )
        return Progress(params, state, memory, optimizer)

    def advance(
        self, now: Progress, inputs: Any, noise: Any, key: Any, step: Any
    ) -> tuple[Progress, Estimate, Any]:
        """Take one step; also give the norm of the gradient."""
        memory, state, estimate = self.estimate(now, inputs, noise, key, step)
        after = self.apply(now, memory, state, estimate.gradient, step)
        return after, estimate, self.backend.norm(estimate.gradient)

    def advance_chunk(
        self, now: Progress, inputs: Any, noise: Any, key: Any, steps: Any
    ) -> tuple[Progress, Any, Any]:
        """Take as many steps as there are numbers; give their losses and the params' norm."""

        def body(now: Progress, item: tuple[Any, Any, Any]) -> tuple[Progress, Any]:
            inputs, noise, step = item
            now, estimate, _ = self.advance(now, inputs, noise, key, step)
            return now, estimate.loss

        now, losses = self.backend.scan(body, now, (inputs, noise, steps))
        return now, losses, self.backend.norm(now.params)
