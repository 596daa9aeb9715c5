"""Steps whose loss comes later, against steps that return it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uoro.algebra import repeat
from uoro.backend import Backend
from uoro.derivatives.probing import cotangent_for
from uoro.dynamics import Dynamics, Outcome, Pullback
from uoro.estimator import Estimator, ParallelEstimator
from uoro.estimators.baseline import BesideBaseline
from uoro.prediction import predicting
from uoro_conformance.apparatus import compiled_step
from uoro_conformance.finding import Finding, largest, precision_of, relative_gap
from uoro_conformance.memory import UNIT, memory_precision
from uoro_conformance.programs import kept
from uoro_conformance.systems import System, Trial

ROUNDING = 1e4
"""How many units of roundoff count as rounding."""

PREDICTOR = System("outputs", 3, 4, 1)
"""A system whose output has several leaves."""


@dataclass(frozen=True, eq=False)
class Weighted:
    """Dynamics whose loss is ``<ō, o>``, for the output o of other dynamics and a fixed ō."""

    dynamics: Dynamics[Any, Any, Any]
    cotangent: Any

    @property
    def backend(self) -> Backend:
        """The backend of the model."""
        return self.dynamics.backend

    @property
    def span(self) -> int:
        """Number of items of the stream that one step consumes."""
        return self.dynamics.span

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Compute the next state and the loss."""
        return self._weigh(self.dynamics.forward(params, state, inputs))

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Compute the JVP of next state and loss."""
        pushed, tangent = self.dynamics.jvp(params, state, inputs, state_tangent)
        return pushed, self.backend.inner(self.cotangent, tangent)

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Compute the outcome, and its pullback."""
        outcome, pull = self.dynamics.vjp(params, state, inputs)

        def pullback(state_cotangent: Any, of_loss: Any) -> tuple[Any, Any]:
            if of_loss is None:
                return pull(state_cotangent, None)
            return pull(state_cotangent, self.backend.combine((of_loss, self.cotangent)))

        return self._weigh(outcome), pullback

    def _weigh(self, outcome: Outcome[Any]) -> Outcome[Any]:
        loss = self.backend.inner(self.cotangent, outcome.output)
        return Outcome(outcome.next_state, loss, outcome.aux)


def check_prediction(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Check that a gradient that is asked for later is that of a step that returns the loss.

    For a fixed cotangent ō, the loss ``<ō, o>`` is taken in two ways: by `Estimator.step` on
    dynamics that return the loss, and by `Predicting.advance` on dynamics that return o. Carry and
    state must be equal after each step, and so must the gradients: that of the step, that of the
    prediction, and that of `Predicting.gradient`. Of several streams, a step averages the losses.

    Args:
        trial: Trial to run on; its output may be any tree.
        estimator: Estimator under test.
        seed: Seed of the signs.
    """
    law = "a step is a prediction, with its gradient taken at once"
    dynamics, backend = trial.dynamics, trial.dynamics.backend
    parallel = isinstance(estimator, ParallelEstimator)
    count = estimator.count if isinstance(estimator, ParallelEstimator) else None
    one_stream = getattr(estimator, "estimator", estimator) if parallel else estimator
    allowed = ROUNDING * UNIT[memory_precision(trial, one_stream)]
    params, state, item = trial.params[0], trial.state, trial.items[0]
    cotangent = cotangent_for(backend, dynamics.forward(params, state, item).output)
    weighted = Weighted(dynamics, cotangent)
    if count is not None:
        cotangent = repeat(backend, cotangent, count)
        state = backend.collect(
            [backend.combine((1.0 - 0.2 * b, trial.state)) for b in range(count)]
        )
    step, advance = compiled_step(weighted, estimator), _compiled_advance(dynamics, estimator)
    here: Any = state if count is not None else trial.state

    def shown(number: int) -> Any:
        one = trial.items[number]
        return one if count is None else backend.collect([one] * count)

    carry = estimator.init(dynamics, params, here, inputs=shown(0))
    gaps: dict[str, float] = {}

    def compare(what: str, got: Any, expected: Any) -> None:
        gap = relative_gap(backend, got, expected)
        if isinstance(got, BesideBaseline):
            # What a baseline leaves over may be rounding alone, and a normaliser is its root.
            gap = largest([gap**2, relative_gap(backend, got.baseline, expected.baseline)])
        gaps[what] = largest([gaps.get(what, 0.0), gap])

    for number, params in enumerate(trial.params):
        signs = _signs(trial, estimator, 100 * seed + number, count)
        now = params, carry, here, shown(number), signs
        after, following, estimate = step(*now)
        carry, here, early, late = advance(*now, cotangent)
        expected = estimate.gradient
        if count is not None:
            expected = backend.combine((float(count), expected))
        compare("carry", carry, after)
        compare("state", here, following)
        compare("gradient of the prediction", early, expected)
        compare("gradient() from what the step received", late, expected)
    where = max(gaps, key=lambda name: gaps[name])
    evidence = f"{len(trial.params)} steps; the largest gap is that of the {where}."
    verdict: Any = "holds" if gaps[where] <= allowed else "broken"
    return Finding(law, verdict, gaps[where], allowed, evidence, trial.line)


def check_prediction_of_trees(trial: Trial, estimator: Any) -> Finding:
    """Run `check_prediction` on a system with several outputs, on the backend of a trial."""
    backend = trial.dynamics.backend
    dtype = precision_of(backend, trial.state, trial.params[0])
    return check_prediction(PREDICTOR.build(backend, dtype), estimator)


@kept(64)
def _compiled_advance(dynamics: Any, estimator: Any) -> Callable[..., Any]:
    taken = predicting(estimator, "check_prediction")

    def advance(
        params: Any, carry: Any, state: Any, inputs: Any, signs: Any, cotangent: Any
    ) -> tuple[Any, Any, Any, Any]:
        given = params, carry, state, inputs
        carry, state, prediction = taken.advance(dynamics, *given, signs)
        late = taken.gradient(dynamics, *given, cotangent)
        return carry, state, prediction.gradient(cotangent), late

    compiled: Callable[..., Any] = dynamics.backend.compile(advance)
    return compiled


def _signs(trial: Trial, estimator: Any, seed: int, count: int | None) -> Any:
    """Draw signs for one step, of one stream or of a stack of streams."""
    backend = trial.dynamics.backend
    key = backend.key(seed)

    def sampler(like: Any, distribution: Any, batch: Any = (), stacked: int = 0) -> Any:
        return backend.random(key, like, distribution, batch, stacked)

    state = trial.state if count is None else repeat(backend, trial.state, count)
    return estimator.draw(sampler, state)
