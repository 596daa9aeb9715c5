"""Predict now, learn later: steps whose loss is known only after the prediction was used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from uoro.algebra import norm
from uoro.arguments import mismatch, require_callable, require_count
from uoro.errors import SettingError, StructureError, spelled
from uoro.estimator import Estimate, ParallelEstimator
from uoro.learning.carry import Progress
from uoro.learning.nonfinite import cause_of, fault_of
from uoro.learning.stepper import Stepper
from uoro.learning.update import ERA, Clock, Update
from uoro.prediction import predicting, require_loss

Loss = Callable[[Any, Any], Any]
"""Function ``(output, target) -> loss`` of one stream."""


class Waiting(NamedTuple):
    """A prediction whose loss is not known yet.

    Attributes:
        params: Parameters of the step.
        carry: Carry that the step arrived with.
        state: Hidden state before the step.
        inputs: Item of the step.
        output: Output of the step.
        clock: Clock of the step.
    """

    params: Any
    carry: Any
    state: Any
    inputs: Any
    output: Any
    clock: Clock


class Later:
    """Take steps, and learn from them in their order once their targets are known.

    Args:
        stepper: Takes the steps.
        loss: Loss of an output and a target; ``None`` if there is none, and no learning.

    Attributes:
        waiting: Predictions not learned from, the oldest first.

    Raises:
        SettingError: If the loss is not callable.
    """

    def __init__(self, stepper: Stepper, loss: Loss | None) -> None:
        if loss is not None:
            require_callable("Learner(...)", "loss", loss, "a function (output, target) -> loss")
        self.waiting: deque[Waiting] = deque()
        self._stepper, self._backend = stepper, stepper.backend
        self._loss = loss
        compiled = self._backend.compile
        self._predict, self._estimate = compiled(self._advance), compiled(self._judge_and_pull)
        self._apply = compiled(lambda *step: self._update.apply(*step))

        def judged(output: Any, nothing: Any, target: Any) -> Any:
            assert loss is not None
            return nothing, loss(output, target)

        self._judged = self._backend.dynamics(judged, check=False)

    @property
    def _update(self) -> Update:
        return self._stepper.update

    def predict(self, inputs: Any) -> Any:
        """Take a step without its loss; `uoro.Learner.predict` documents it."""
        stepper = self._stepper
        if stepper.donates:
            expected, got = "a learner that keeps the arrays of a step", "donate=True"
            raise SettingError(mismatch("Learner.predict(inputs)", "", expected, got))
        inputs = self._backend.from_host(inputs)
        stepper.start(inputs)
        now, signs, clock = stepper.progress, stepper.next_signs(), stepper.clock()
        carry, state, output = self._predict(now, inputs, signs, clock)
        stepper.progress = now._replace(carry=carry, state=state)
        self.waiting.append(Waiting(now.params, now.carry, now.state, inputs, output, clock))
        stepper.steps += 1
        return output

    def learn(self, target: Any) -> Estimate:
        """Learn from the oldest prediction; `uoro.Learner.learn` documents it."""
        call, stepper = "Learner.learn(target)", self._stepper
        if self._loss is None:
            hint = "Pass a function: Learner(..., loss=lambda output, target: ...)."
            raise SettingError(mismatch(call, "", "a learner with a loss", "loss=None", hint))
        if not self.waiting:
            hint = "Call predict(inputs) first, once for each target."
            raise StructureError(mismatch(call, "", "a prediction to learn from", "none", hint))
        oldest = self.waiting[0]
        target = self._backend.from_host(target)
        loss, gradient, size = self._estimate(oldest, target)
        estimate = Estimate(loss, gradient)
        fault = fault_of(estimate, size)
        policy, number = stepper.policy, int(oldest.clock.number) + oldest.clock.era * ERA
        if fault is None:
            self.waiting.popleft()
            self._keep_params()
            now = stepper.progress
            stepper.progress = self._apply(now, now.carry, now.state, gradient, oldest.clock)
            policy.skipped_in_a_row = 0
            return estimate
        if policy.choice == "reset":
            stepper.progress = policy.reset(
                self._update, stepper.progress, oldest.inputs, fault, number
            )
        cause = cause_of(self._backend, (oldest.inputs, target), fault)
        policy.skip(self._backend, stepper.progress, fault, number, cause)
        self.waiting.popleft()
        return estimate

    def forget(self, count: int | None) -> None:
        """Drop predictions; `uoro.Learner.forget` documents it."""
        call, there = f"Learner.forget(count={spelled(count)})", len(self.waiting)
        count = there if count is None else require_count(call, "count", count, least=0)
        if count > there:
            got = f"{count} of {there}"
            raise SettingError(mismatch(call, "count", "at most all that wait", got))
        for _ in range(count):
            self.waiting.popleft()

    def _advance(self, now: Progress, inputs: Any, signs: Any, clock: Clock) -> Any:
        if signs is None:
            signs = self._update.draw(now, clock)
        estimator = predicting(self._update.estimator, "Learner.predict(inputs)")
        carry, state, prediction = estimator.advance(
            self._update.dynamics, now.params, now.carry, now.state, inputs, signs
        )
        return carry, state, prediction.output

    def _judge_and_pull(self, waiting: Waiting, target: Any) -> Any:
        """Compute the loss, and the gradient at the params of the step."""
        loss, cotangent = self._judge(waiting.output, target)
        estimator = predicting(self._update.estimator, "Learner.learn(target)")
        gradient = estimator.gradient(self._update.dynamics, *waiting[:4], cotangent)
        return loss, gradient, norm(self._backend, gradient)

    def _judge(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Return the loss of an output, or the mean of those of many streams, and ∂ℓ/∂o."""

        def one(output: Any, target: Any) -> tuple[Any, Any]:
            outcome, pullback = self._judged.vjp(output, (), target)
            return require_loss(outcome.output), pullback(None, 1.0)[0]

        estimator = self._update.estimator
        if not isinstance(estimator, ParallelEstimator):
            return one(output, target)
        losses, cotangents = self._backend.vmap(one)(output, target)
        return losses.mean(), self._backend.combine((1.0 / estimator.count, cotangents))

    def _keep_params(self) -> None:
        """Copy the params for those that wait, in case the optimizer changes them in place."""
        now = self._stepper.progress.params
        if self._backend.compiled or not any(each.params is now for each in self.waiting):
            return
        kept = self._backend.combine((1.0, now))
        self.waiting = deque(
            each._replace(params=kept) if each.params is now else each for each in self.waiting
        )


class LearnsLater:
    """The methods of a learner that predict, and learn when the target is known."""

    _later: Later

    @property
    def waiting(self) -> int:
        """Number of predictions not learned from."""
        return len(self._later.waiting)

    def predict(self, inputs: Any) -> Any:
        """Run the model on one item, whose loss comes later.

        The hidden state and the influence estimate advance. The prediction waits, with what its
        gradient needs (the params, the carry and the state of the step), until `learn` or `forget`.

        Args:
            inputs: Item of the stream; a stack of T where the estimate is of T items at a time, for
                `Streams` a stack of B.

        Returns:
            The output of the transition; for `Streams` a stack.

        Raises:
            SettingError: If the learner donates its arrays.
            StructureError: If the estimator needs the loss within its step.
            StreamError: If the stream of signs has ended.

        Example:
            >>> from uoro import SGD, UORO, Learner, load_backend
            >>> backend = load_backend("autograd")
            >>> xp = backend.xp
            >>> learner = Learner(
            ...     backend.dynamics(lambda theta, state, x: (0.5 * state + theta,) * 2), UORO(),
            ...     SGD(0.01), xp.array(0.0), xp.zeros(3),
            ...     loss=lambda y, t: 0.5 * xp.sum((y - t) ** 2))
            >>> for _ in range(200):
            ...     output = learner.predict(0.0)
            ...     estimate = learner.learn(1.0)
            >>> bool(abs(learner.params - 0.5) < 0.01)
            True
        """
        return self._later.predict(inputs)

    def learn(self, target: Any) -> Estimate:
        """Take the loss of the oldest prediction not learned from, and update the parameters.

        The gradient is that at the parameters of the prediction, and the learning rate that of its
        step. Immediately after `predict` the update is that of `step` with a transition that
        returns the same loss. Cost: the step is run again.

        Args:
            target: Second argument of ``loss``; for `Streams` a stack of B. With an estimate of T
                items at a time, ``loss`` gets the stacks of T outputs and T targets.

        Returns:
            Loss and gradient. For `Streams`, ``loss`` is that of one stream, and both are means.

        Raises:
            SettingError: If the learner has no ``loss``.
            StructureError: If no prediction waits, or the loss is no scalar.
            NonFiniteError: If the loss or the gradient is not finite and ``on_nonfinite`` does not
                allow for it; the learner is unchanged.
        """
        return self._later.learn(target)

    def forget(self, count: int | None = None) -> None:
        """Drop the oldest predictions, whose targets will never come.

        Args:
            count: Number of predictions; default: all.

        Raises:
            SettingError: If fewer wait.
        """
        self._later.forget(count)
