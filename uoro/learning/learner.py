"""The loop: items of a stream go in, the parameters learn, losses come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, get_args

from uoro.algebra import differentiable
from uoro.arguments import (
    mismatch,
    require_callable,
    require_choice,
    require_count,
    require_dynamics,
    require_flag,
    require_optimizer,
    require_stream,
)
from uoro.backend import Backend
from uoro.deprecation import renamed_keywords
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, StructureError, spelled
from uoro.estimator import Estimate, Estimator
from uoro.estimators.auto import Auto
from uoro.estimators.chosen import as_estimator, described
from uoro.learning.carry import Metrics, Progress, Summary
from uoro.learning.later import Later, LearnsLater, Loss
from uoro.learning.nonfinite import NonfinitePolicy, OnNonfinite
from uoro.learning.restart import restart_streams
from uoro.learning.saved import Saved
from uoro.learning.stepper import Stepper
from uoro.learning.update import Update
from uoro.learning.windows import windowed
from uoro.optimizer import Optimizer

LONGEST_CHUNK = 2**24
"""Largest number of steps in a chunk, whose items are in memory together."""
_MAKE = "Learner(...)"


@renamed_keywords("Learner", {"noise": "signs"})
class Learner(LearnsLater):
    """Train a recurrent model online: one gradient estimate and one update per step.

    Args:
        dynamics: Model, ``backend.dynamics(transition)``, or ``unroll(dynamics, T)`` to estimate
            the gradient of T items at a time.
        estimator: Gradient estimator: `KroneckerSum`, `UORO`, `RTRL`, `RollingTruncated`, or
            `Streams` of one of them; or its name as on the command line. ``"auto"`` is one that
            fits the model, chosen at the first item; `describe` says which, and why.
        optimizer: Optimizer: `SGD`, `Adam`, `Clipped`, or one of the framework's, wrapped.
        params: Initial parameters, any tree of arrays.
        state: Initial hidden state, any tree of arrays; for `Streams` a stack of B of them.
        loss: Function ``(output, target) -> loss`` that `learn` takes the gradient of, for a
            transition that returns an output instead of a loss.
        seed: Seed of every random draw, an integer >= 0; equal seeds give equal runs.
        signs: Stream of random signs that replaces the estimator's own draws.
        donate: Whether a compiled chunk, or with ``compile`` a step, may overwrite the arrays it
            starts from. That halves the memory they take, and a step that is not finite cannot be
            taken back. Arrays read from the learner earlier become invalid; the arrays the learner
            was built of stay as they are.
        compile: Whether to compile each step where the framework is eager and has a compiler, as
            PyTorch does. The optimizer must then be `SGD`, `Adam` or `Clipped`, and the first step
            takes about half a minute. JAX always compiles.
        on_nonfinite: What to do with an item whose loss or gradient is not finite. ``"stop"``:
            raise. ``"skip"``: leave the item out. ``"reset"``: set the carry to its initial value,
            and the hidden state too if it is not finite, and try the item again; skip it if that
            does not help. Both are counted and logged, and a hundred items skipped in a row are an
            error.

    Raises:
        SettingError: If an argument is out of range, or the backend has no compiler.
        StructureError: If there is no floating-point parameter.

    Example:
        >>> from itertools import repeat
        >>> from uoro import SGD, UORO, Learner, load_backend
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> def transition(theta, state, target):
        ...     next_state = 0.5 * state + theta
        ...     return next_state, 0.5 * xp.sum((next_state - target) ** 2)
        >>> learner = Learner(backend.dynamics(transition), UORO(), SGD(0.01),
        ...                   xp.array(0.0), xp.zeros(3))
        >>> summary = learner.run(repeat(1.0), steps=200)
        >>> bool(abs(learner.params - 0.5) < 0.01)
        True
    """

    def __init__(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator | Auto | str,
        optimizer: Optimizer,
        params: Any,
        state: Any,
        *,
        loss: Loss | None = None,
        seed: int = 0,
        signs: Iterable[Any] | None = None,
        donate: bool = False,
        compile: bool = False,
        on_nonfinite: OnNonfinite = "stop",
    ) -> None:
        require_choice(_MAKE, "on_nonfinite", on_nonfinite, get_args(OnNonfinite))
        require_flag(_MAKE, "donate", donate)
        require_flag(_MAKE, "compile", compile)
        if donate and on_nonfinite != "stop":
            raise SettingError(
                f"Learner(donate=True, on_nonfinite={on_nonfinite!r}): expected on_nonfinite="
                "'stop', because a donated step cannot be taken back. Leave one of the two out."
            )
        require_dynamics(_MAKE, dynamics)
        self.dynamics = dynamics
        self.optimizer = require_optimizer(_MAKE, optimizer)
        backend = self.backend
        start = Progress(backend.from_host(params), backend.from_host(state), None, None)
        if not differentiable(backend, start.params):
            raise StructureError(
                mismatch(_MAKE, "params", "at least one floating-point number", "none")
            )
        self._stepper = Stepper(
            Update(dynamics, as_estimator(_MAKE, estimator), self.optimizer),
            start,
            seed=seed,
            signs=None if signs is None else require_stream("Learner(signs=...)", signs),
            donate=donate,
            compile=compile,
            policy=NonfinitePolicy(on_nonfinite, start.state),
        )
        self._later = Later(self._stepper, loss)

    @property
    def backend(self) -> Backend:
        """Backend of the dynamics."""
        return self.dynamics.backend

    @property
    def estimator(self) -> Any:
        """Estimator; an `uoro.estimators.Auto` until the first item decides."""
        return self._stepper.update.estimator

    def describe(self) -> str:
        """Return how the model is differentiated, and by which estimator, chosen for what reason.

        Before the first step neither is known whole.
        """
        return described(self.dynamics, self.estimator, self._stepper.chosen)

    @property
    def steps(self) -> int:
        """Number of steps taken, including skipped items."""
        return self._stepper.steps

    @property
    def params(self) -> Any:
        """Parameters after the last step."""
        return self._stepper.progress.params

    @property
    def state(self) -> Any:
        """Hidden state after the last step."""
        return self._stepper.progress.state

    @property
    def carry(self) -> Any:
        """Carry of the estimator (its influence estimate); ``None`` before the first step."""
        return self._stepper.progress.carry

    @property
    def skipped(self) -> int:
        """Number of items skipped because of ``on_nonfinite``."""
        return self._stepper.policy.skipped

    @property
    def resets(self) -> int:
        """Number of resets of the carry because of ``on_nonfinite``."""
        return self._stepper.policy.resets

    def step(self, inputs: Any) -> Estimate:
        """Estimate the gradient on one item, and update the parameters.

        Args:
            inputs: Item of the stream; a stack of T where the estimate is of T items at a time, for
                `Streams` a stack of B.

        Returns:
            The estimate, even of an item that was skipped.

        Raises:
            NonFiniteError: If the loss or the gradient is not finite and ``on_nonfinite`` does not
                allow for it; the learner is unchanged.
            StreamError: If the stream of signs has ended.
        """
        return self._stepper.step(inputs)

    def run(
        self,
        stream: Iterable[Any],
        steps: int | None = None,
        *,
        chunk: int = 256,
        report: Callable[[Metrics], None] | None = None,
    ) -> Summary:
        """Take many steps; the numbers are those of as many calls of `step`, and it is faster.

        Args:
            stream: Items of the stream, one per time step. Where the estimate is of T items at a
                time, the stream is cut into windows of T, and a rest shorter than T is dropped. An
                iterator is read no further than the last step, so that the next call continues
                where this one stopped. A `BlockStream` may return fewer items than asked for.
            steps: Largest number of steps; default: until the stream ends.
            chunk: Largest number of steps between two reports, default 256. JAX runs them as one
                compiled loop; for one value of ``chunk`` the results are the same bit for bit
                however the steps are split between calls.
            report: Function called with the `Metrics` of each chunk.

        Returns:
            Number of steps, mean of their finite losses, and the last loss.

        Raises:
            NonFiniteError: If a loss or a gradient is not finite and ``on_nonfinite`` does not
                allow for it. The steps before are kept, and a compiled chunk has been read from
                the stream to its end.
            StreamError: If the stream of signs has ended.
        """
        call = f"Learner.run(steps={spelled(steps)}, chunk={spelled(chunk)})"
        steps = None if steps is None else require_count(call, "steps", steps, least=0)
        chunk = require_count(call, "chunk", chunk)
        if chunk > LONGEST_CHUNK:
            expected = f"an integer <= {LONGEST_CHUNK}"
            raise SettingError(mismatch(call, "chunk", expected, spelled(chunk)))
        if report is not None:
            require_callable(call, "report", report, "a function of Metrics")
        stream = windowed(self._stepper.update, stream, call)
        total, last, taken, finite = 0.0, math.nan, 0, 0
        while steps is None or taken < steps:
            count = chunk if steps is None else min(chunk, steps - taken)
            first = self.steps
            losses: list[float] = []
            try:
                more = self._stepper.run(stream, count, chunk, losses)
            finally:
                if losses and report is not None:
                    report(Metrics(first, losses))
            taken += len(losses)
            counted = list(filter(math.isfinite, losses))
            finite += len(counted)
            total += math.fsum(counted)
            last = losses[-1] if losses else last
            if not more:
                break
        return Summary(taken, total / finite if finite else math.nan, last)

    def export(self) -> Saved:
        """Return everything that determines what this learner does next, except the stream.

        Returns:
            Host arrays and numbers; `uoro.checkpoint` writes them to a file, and `restore`
            continues from them bit for bit.

        Raises:
            SettingError: If the optimizer keeps something that cannot be saved, or predictions
                wait to be learned from, which are not saved.
        """
        if self.waiting:
            got, hint = f"{self.waiting}", "Call learn(target), or forget(), for each of them."
            raise SettingError(mismatch("Learner.export()", "", "no waiting prediction", got, hint))
        return self._stepper.export()

    def restore(self, saved: Saved, *, inputs: Any = None) -> None:
        """Load what `export` returned; predictions that wait are dropped.

        Args:
            saved: Arrays and numbers of a learner of the same model, estimator and optimizer, on
                any backend.
            inputs: One item of the stream, required by estimators that store items, such as
                `RollingTruncated`.

        Raises:
            StructureError: If model, estimator or optimizer differ; the learner is unchanged.
            SettingError: If the estimator needs an item and there is none.
        """
        inputs = None if inputs is None else self.backend.from_host(inputs)
        self._stepper.restore(saved, inputs, f"{type(self).__name__}.restore(saved)")
        self.forget()

    def reset(self, mask: Any, fresh: Any) -> None:
        """Start some of several streams again, each with a new hidden state and the initial carry.

        Args:
            mask: B booleans, true where a stream starts again.
            fresh: Stack of B hidden states to start from.

        Raises:
            SettingError: If the estimator runs a single stream.
            StructureError: If ``mask`` does not have B entries, or ``fresh`` is not like the state.
        """
        restart_streams(self._stepper, mask, fresh)
