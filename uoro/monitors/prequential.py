"""Judge each prediction as it was made: before its target, and all targets since, were known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from uoro.algebra import working_precision
from uoro.arguments import require_count
from uoro.dynamics import Dynamics
from uoro.estimator import Estimate, Estimator, Guarantee, Sampler, guarantee_of, needs_item
from uoro.estimators.auto import require_estimator

JUDGED = ("predicted", "target", "weight", "change", "scale", "base")
"""What is kept of a row, by target: the prediction made h rows before, and fields of the item."""


class PrequentialCarry(NamedTuple):
    """Carry of `Prequential`.

    Attributes:
        estimator: Carry of the estimator.
        state: Hidden state of the model in use, which has read all rows but the present one.
        waiting: Its last h predictions, the oldest first.
        judged: The last rows, each with the entries `JUDGED` of each target.
    """

    estimator: Any
    state: Any
    waiting: Any
    judged: Any


@dataclass(frozen=True)
class Prequential:
    """Train on predictions h rows ahead, and judge those that a model in use would have made.

    A prediction of row t is made at row t-h, and its loss is known h rows later. Training is
    therefore h rows late: at row t the model reads the inputs of row t-h, and learns from what they
    led to. Its own output at that moment is no prediction, as its params have seen the targets up
    to row t-1. So a second hidden state runs along, of the model in use: at row t it reads row t-1
    with the present params, which have learned from row t-1 and no further, and its prediction
    waits until its row has come. The loss returned is that of the waiting prediction; the gradient
    is that of training, untouched.

    An item is a dict of ``"inputs"``, ``"target"`` and ``"weight"``, which the model reads,
    ``"newest"``, the inputs of the row before, and the other entries of `JUDGED`. The model returns
    its prediction as the third element of a step.

    Cost: one forward pass more.

    Args:
        estimator: Estimator of the run, of a single stream and no windows of its own.
        horizon: h, the number of rows ahead.
        targets: Number of targets.
        rows: Number of last rows kept in the carry.

    Raises:
        SettingError: If a number is no positive integer, or the estimator is none.
    """

    estimator: Estimator
    horizon: int
    targets: int
    rows: int

    def __post_init__(self) -> None:
        require_estimator("Prequential(...)", self.estimator)
        for what in ("horizon", "targets", "rows"):
            require_count(f"Prequential({what}=...)", what, getattr(self, what))

    @property
    def guarantee(self) -> Guarantee:
        """Guarantee of the estimator, whose gradient is returned."""
        return guarantee_of(self.estimator)

    @property
    def needs_item(self) -> bool:
        """Return whether the carry of the estimator is built by an item."""
        return needs_item(self.estimator)

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> PrequentialCarry:
        """Return the carry of the estimator, a copy of the state, and no predictions."""
        backend = dynamics.backend
        precision = working_precision(backend, params)
        waiting, judged = (
            backend.from_host(backend.xp.zeros(shape), dtype=precision)
            for shape in (
                (self.horizon, self.targets),
                (self.rows, len(JUDGED), self.targets),
            )
        )
        return PrequentialCarry(
            self.estimator.init(dynamics, params, state, inputs=inputs),
            backend.combine((1.0, state)),
            waiting,
            judged,
        )

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw the signs of the estimator."""
        return self.estimator.draw(sampler, state)

    def step(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: PrequentialCarry,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[PrequentialCarry, Any, Estimate]:
        """Advance both; return the state and gradient of training, and the loss in use."""
        xp = dynamics.backend.xp
        own, after, estimate = self.estimator.step(
            dynamics, params, carry.estimator, state, inputs, signs
        )
        used = dynamics.forward(params, carry.state, {**inputs, "inputs": inputs["newest"]})
        span = dynamics.span
        rows = {"predicted": used.aux} | {name: inputs[name] for name in JUDGED[1:]}
        if span == 1:
            rows = {name: part[None] for name, part in rows.items()}
        made = xp.concatenate([carry.waiting, rows["predicted"]])
        rows["predicted"] = made[1 : 1 + span]
        error = rows["weight"] * (rows["predicted"] - rows["target"]) ** 2
        fresh = xp.stack([rows[name] for name in JUDGED], 1)
        judged = xp.concatenate([carry.judged, fresh])[span:]
        after_carry = PrequentialCarry(own, used.next_state, made[span:], judged)
        loss = xp.sum(error) / self.targets
        return after_carry, after, Estimate(loss, estimate.gradient, estimate.aux)
