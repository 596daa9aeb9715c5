"""The loop: a stream goes in, the params learn, metrics come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from uoro.algebra import select, working_precision
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import NonFiniteError, SettingError, StreamError
from uoro.estimator import Estimate, Estimator
from uoro.metrics import Metrics, Progress, Summary
from uoro.optimizers import Optimizer
from uoro.parallel import ParallelEstimator
from uoro.routes import probe
from uoro.stream import take
from uoro.update import Update


class Learner:
    """Train a recurrent model online: one estimate and one update a step.

    Args:
        dynamics: The model, from ``backend.dynamics(transition)``; unrolled for memory-T or
            chunked truncation.
        estimator: Where the gradient comes from: `UORO`, `RTRL`, `Truncated`,
            `RollingTruncated`, or `Streams` of one of them.
        optimizer: What to do with it.
        params: The initial parameters.
        state: The initial state; a stack of B of them for `Streams`.
        seed: Determines every random draw, by step: equal seeds give equal runs.
        noise: A stream of the estimator's noise to use in place of its own draws.
        donate: Whether a compiled chunk of `run`, or with ``compile`` a step, may overwrite the
            params, the optimizer's memory and the pair that it starts from. That halves what they
            take, and there is no going back over one with a loss that is not finite. Arrays taken
            from the learner before are then gone or overwritten; those it was made of are not.
        compile: Whether to compile the whole step where the framework runs it eagerly and has a
            compiler, as PyTorch has: the optimizer must then be one of this library's. The first
            step takes half a minute or so. JAX compiles always.

    Raises:
        SettingError: If something that is no setting is given, or there is no compiler.

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
        estimator: Estimator,
        optimizer: Optimizer,
        params: Any,
        state: Any,
        *,
        seed: int = 0,
        noise: Iterable[Any] | None = None,
        donate: bool = False,
        compile: bool = False,
    ) -> None:
        if not hasattr(dynamics, "backend"):
            raise SettingError(
                f"Learner(dynamics={dynamics!r}): wanted are dynamics. Make them of a transition: "
                "load_backend(name).dynamics(transition)."
            )
        for what, thing in (("estimator", estimator), ("optimizer", optimizer)):
            if isinstance(thing, type):
                raise SettingError(
                    f"Learner({what}={thing.__name__}): that is the class. Make one of it: "
                    f"{thing.__name__}(...)."
                )
        self.dynamics = dynamics
        self.estimator = estimator
        self.optimizer = optimizer
        self.steps = 0
        backend = self.backend
        self._progress = Progress(backend.from_host(params), backend.from_host(state), None, None)
        self._started = False
        self._key = backend.key(seed)
        self._noise = None if noise is None else iter(noise)
        self._update = Update(dynamics, estimator, optimizer)
        self._donates = donate
        self._compiles = compile or backend.compiled
        compile_step = backend.compile
        if compile and not backend.compiled:
            compile_step = getattr(backend, "compile_step", None) or self._without_compiler()
            compile_step = partial(compile_step, donate=donate)
        self._advance_compiled = compile_step(self._update.advance)
        self._advance_chunk_compiled = backend.compile(self._update.advance_chunk, donate=donate)

    @property
    def backend(self) -> Backend:
        """The backend of the dynamics."""
        return self.dynamics.backend

    @property
    def params(self) -> Any:
        """The present parameters."""
        return self._progress.params

    @property
    def state(self) -> Any:
        """The present state."""
        return self._progress.state

    @property
    def memory(self) -> Any:
        """The estimator's present memory; ``None`` before the first step."""
        return self._progress.memory

    def step(self, inputs: Any) -> Estimate:
        """Take one step: estimate the gradient on one item, then update the params.

        Args:
            inputs: One item of the stream; for unrolled dynamics a stack of T, for `Streams` a
                stack of B.

        Returns:
            The estimate that was used.

        Raises:
            NonFiniteError: If the loss or the gradient is not finite; nothing was updated then.
            StreamError: If the noise was given as a stream and has ended.
        """
        inputs = self.backend.from_host(inputs)
        self._start(inputs)
        return self._step(inputs, self._next_noise())

    def run(
        self,
        stream: Iterable[Any],
        steps: int | None = None,
        *,
        chunk: int = 256,
        report: Callable[[Metrics], None] | None = None,
    ) -> Summary:
        """Take many steps, fast; the numbers are those of as many calls of `step`.

        Args:
            stream: Items as `step` takes them. An iterator is consumed no further than the
                last step taken, so that a later call goes on where this one stopped.
            steps: How many to take at most; as many as the stream has if not given.
            chunk: How many steps to take between two reports; where the backend compiles, they
                run as one compiled loop.
            report: Called with the `Metrics` of every chunk as it is done.

        Raises:
            NonFiniteError: If a loss or a gradient is not finite. The steps before it count, and
                the learner is as it was before the offending one. A compiled chunk has then been
                read from the stream to its end.
            StreamError: If the noise was given as a stream and has ended.
        """
        if chunk < 1 or (steps is not None and steps < 0):
            raise SettingError(
                f"Learner.run(steps={steps}, chunk={chunk}): wanted are steps >= 0 and chunk >= 1."
            )
        stream = iter(stream)
        total, last, taken = 0.0, math.nan, 0
        while steps is None or taken < steps:
            count = chunk if steps is None else min(chunk, steps - taken)
            first = self.steps
            losses: list[float] = []
            try:
                more = (
                    self._run_compiled(stream, count, losses)
                    if self.backend.compiled
                    else self._run_each(stream, count, losses)
                )
            finally:
                if losses and report is not None:
                    report(Metrics(first, losses))
            taken += len(losses)
            total += math.fsum(losses)
            last = losses[-1] if losses else last
            if not more:
                break
        return Summary(taken, total / taken if taken else math.nan, last)

    def reset(self, mask: Any, fresh: Any) -> None:
        """Start some of several streams anew, with a zero pair each.

        Args:
            mask: An array of B booleans; true where a stream starts anew.
            fresh: A stack of B states to start from.

        Raises:
            SettingError: If the estimator does not run several streams.
        """
        if not isinstance(self.estimator, ParallelEstimator):
            raise SettingError(
                f"Learner.reset(mask, fresh): the estimator is {type(self.estimator).__name__}, "
                "which runs a single stream. Wrap it: Streams(estimator, count)."
            )
        now, fresh = self._progress, self.backend.from_host(fresh)
        if not self._started:
            mask = self.backend.from_host(mask)
            self._progress = now._replace(state=select(self.backend, mask, fresh, now.state))
            return
        memory, state = self.estimator.reset(
            self.dynamics,
            now.params,
            now.memory,
            now.state,
            mask,
            fresh,
            inputs=self._example,
        )
        self._progress = now._replace(memory=memory, state=state)

    def _start(self, inputs: Any) -> None:
        """Make the memories, once the first item shows its shape."""
        if self._started:
            return
        now = self._progress
        first = (now.state, inputs)
        if isinstance(self.estimator, ParallelEstimator):
            first = self._item(first, 0)
        probe(self.dynamics, now.params, *first)
        self._progress = self._update.start(now, inputs)
        self._example = inputs
        self._started = True

    def _step(self, inputs: Any, noise: Any) -> Estimate:
        now = self._progress
        if self._compiles:
            step: Any = self.steps
            if not self.backend.compiled:
                # Numbers and keys of Python's would be compiled in.
                if noise is None:
                    noise = self._update.draw(now, self._key, step)
                precision = working_precision(self.backend, now.params)
                step = self.backend.from_host(float(step), dtype=precision)
            after: Progress
            estimate: Estimate
            after, estimate, size = self._advance_compiled(now, inputs, noise, self._key, step)
            if self._donates and not self.backend.compiled:
                self._progress = after
                self._require_finite(estimate, size, kept=False)
            self._require_finite(estimate, size)
        else:
            # An optimizer of the user's may change the params in place: look before it does.
            memory, state, estimate = self._update.estimate(
                now, inputs, noise, self._key, self.steps
            )
            self._require_finite(estimate, self.backend.norm(estimate.gradient))
            after = self._update.apply(now, memory, state, estimate.gradient, self.steps)
        self._progress = after
        self.steps += 1
        return estimate

    def _run_each(self, stream: Iterator[Any], count: int, losses: list[float]) -> bool:
        for inputs in islice(stream, count):
            losses.append(float(self.step(inputs).loss))
        return len(losses) == count

    def _run_compiled(self, stream: Iterator[Any], count: int, losses: list[float]) -> bool:
        inputs, got = take(self.backend, stream, count)
        if not got:
            return False
        self._start(self._item(inputs, 0))
        noise = None
        if self._noise is not None:
            noise, drawn = take(self.backend, self._noise, got)
            self._require_noise(drawn == got)
        steps = self.backend.xp.arange(self.steps, self.steps + got)
        after, done, size = self._advance_chunk_compiled(
            self._progress, inputs, noise, self._key, steps
        )
        losses.extend(self.backend.to_host(done).tolist())
        if all(map(math.isfinite, losses)) and math.isfinite(float(size)):
            self._progress = after
            self.steps += got
            return got == count
        if self._donates:
            self._progress = after
            self._refuse_to_go_back(losses)
        # Go again from the start of the chunk, one by one, up to the step that fails.
        losses.clear()
        for i in range(got):
            estimate = self._step(
                self._item(inputs, i), None if noise is None else self._item(noise, i)
            )
            losses.append(float(estimate.loss))
        return got == count

    def _refuse_to_go_back(self, losses: list[float]) -> None:
        failed = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
        first, self.steps = self.steps, self.steps + len(losses)
        raise NonFiniteError(
            "Learner(donate=True).run(stream)",
            first + failed,
            "the loss" if failed < len(losses) else "the norm of the params",
            losses[failed] if failed < len(losses) else math.nan,
            kept=False,
        )

    def _without_compiler(self) -> Any:
        raise SettingError(
            f"Learner(compile=True): the backend '{self.backend.name}' has no compiler. Leave "
            "compile out, or take 'torch' or 'jax'."
        )

    def _item(self, stack: Any, index: int) -> Any:
        return self.backend.map(lambda leaf: leaf[index], stack)

    def _next_noise(self) -> Any:
        if self._noise is None:
            return None
        nothing = object()
        noise = next(self._noise, nothing)
        self._require_noise(noise is not nothing)
        return self.backend.from_host(noise)

    def _require_noise(self, there: bool) -> None:
        if not there:
            raise StreamError(
                f"Learner(noise=...): the stream of noise ended at or soon after step {self.steps}."
                " Give one that lasts as long as the stream of items, or none."
            )

    def _require_finite(self, estimate: Estimate, size: Any, *, kept: bool = True) -> None:
        for what, value in (
            ("the loss", float(estimate.loss)),
            ("the norm of the gradient", float(size)),
        ):
            if not math.isfinite(value):
                raise NonFiniteError("Learner.step(inputs)", self.steps, what, value, kept=kept)
