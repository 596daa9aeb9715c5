"""Wrong optimizers and wrong learners, each with one mistake that a law of `learning` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro_conformance.learning import OPTIMIZERS

from uoro.learning.learner import Learner
from uoro.learning.optimizers import SGD, Adam


@dataclass(frozen=True)
class Uncorrected(Adam):
    """Adam that takes the count of updates to be large from the start."""

    def update(
        self, backend: Any, gradient: Any, opt_state: Any, params: Any, time: Any
    ) -> tuple[Any, Any]:
        """Update without the correction."""
        late = opt_state._replace(count=opt_state.count * 0 + 1e9)
        return super().update(backend, gradient, late, params, time)


@dataclass(frozen=True)
class Jumping(SGD):
    """SGD whose step is a percent longer at every seventeenth update."""

    def update(
        self, backend: Any, gradient: Any, opt_state: Any, params: Any, time: Any
    ) -> tuple[Any, Any]:
        """Update, too far at some times."""
        if time % 17 == 16:
            gradient = backend.combine((1.01, gradient))
        return super().update(backend, gradient, opt_state, params, time)


@dataclass(frozen=True)
class ByLeaf:
    """Clips each leaf by its own norm."""

    optimizer: Any
    max_norm: float

    def init(self, backend: Any, params: Any) -> Any:
        """Return the state of the optimizer within."""
        return self.optimizer.init(backend, params)

    def update(
        self, backend: Any, gradient: Any, opt_state: Any, params: Any, time: Any
    ) -> tuple[Any, Any]:
        """Clip leaf by leaf, and update."""

        def clip(leaf: Any) -> Any:
            length = float((leaf**2).sum()) ** 0.5
            return leaf * min(1.0, self.max_norm / length)

        clipped = backend.map(clip, gradient)
        updated: tuple[Any, Any] = self.optimizer.update(backend, clipped, opt_state, params, time)
        return updated


WRONG_OPTIMIZERS: dict[str, tuple[Any, Any]] = {
    "Adam without its correction": (Uncorrected(0.01), OPTIMIZERS["Adam"][1]),
    "SGD too far at every seventeenth update": (Jumping(0.1), OPTIMIZERS["SGD"][1]),
    "clipped leaf by leaf": (ByLeaf(SGD(0.1), 3.0), OPTIMIZERS["clipped SGD"][1]),
}
"""Each with the formula it should have; refused by ``learning/optimizers``."""


class ForgetsMoments(Learner):
    """A learner that restores all but the state of its optimizer."""

    def restore(self, saved: Any, *, inputs: Any = None) -> None:
        """Restore with zeros for the moments."""
        arrays = {
            name: array * 0 if name.startswith("optimizer") else array
            for name, array in saved.arrays.items()
        }
        super().restore(saved._replace(arrays=arrays), inputs=inputs)


class ForgetsTheClock(Learner):
    """A learner that is restored to step 0, so that it draws signs again."""

    def restore(self, saved: Any, *, inputs: Any = None) -> None:
        """Restore with the step set back."""
        super().restore(saved._replace(counts={**saved.counts, "steps": 0}), inputs=inputs)


class SkipsInRuns(Learner):
    """A learner whose run leaves out the fortieth item."""

    def run(self, stream: Any, steps: int | None = None, **options: Any) -> Any:
        """Run without one item."""
        kept = (item for number, item in enumerate(stream) if number != 39)
        return super().run(kept, steps, **options)


class StaleParams(Learner):
    """A learner that reports the params before each thirtieth step after it."""

    def step(self, inputs: Any) -> Any:
        """Step, and put the former params back once."""
        before = self._stepper.progress.params
        estimate = super().step(inputs)
        if self.steps == 30:
            self._stepper.progress = self._stepper.progress._replace(params=before)
        return estimate


WRONG_LEARNERS: dict[str, type[Learner]] = {
    "restores without moments": ForgetsMoments,
    "restores without the clock": ForgetsTheClock,
    "leaves the fortieth item of a run out": SkipsInRuns,
    "loses the thirtieth update": StaleParams,
}
"""Refused by ``learning/learner``."""
