"""Steps of a learner: taken one by one or in chunks, kept only where everything is finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from uoro.algebra import entry, norm, working_precision
from uoro.backend import Backend, CompilesSteps
from uoro.errors import DerivativeError, NonFiniteError, SettingError, StreamError
from uoro.estimator import Estimate
from uoro.estimators.chosen import Chosen, chosen_for, is_auto
from uoro.learning.carry import Progress
from uoro.learning.chunks import Attempt, Chunks, Items
from uoro.learning.nonfinite import CALL, LOSS, Fault, NonfinitePolicy, cause_of, fault_of
from uoro.learning.saved import Saved, export_progress, require_counts, restore_progress
from uoro.learning.stream import read
from uoro.learning.update import Clock, Update


class Stepper:
    """Take steps, and keep each only if its loss and gradient are finite.

    Args:
        update: One step as a pure function.
        start: Initial parameters and hidden state.
        seed: Seed of every random draw.
        signs: Iterator of random signs that replaces the estimator's own draws, or ``None``.
        donate: Whether a compiled step or chunk may overwrite the arrays it starts from.
        compile: Whether to compile each step on an eager backend.
        policy: What happens to an item that gives a number that is not finite.

    Attributes:
        progress: Parameters, hidden state, and the states of estimator and optimizer.
        steps: Number of steps taken.
        seed: Seed of every random draw.
        policy: What happens to an item that gives a number that is not finite.
        update: One step as a pure function; its estimator is chosen at the first item, if it is to
            be chosen.
        chosen: Which estimator was chosen, and why.
        donates: Whether a compiled step may overwrite the arrays it starts from.
        example: First item seen since the learner was built or restored.

    Raises:
        SettingError: If a compiler is required and the backend has none.
    """

    def __init__(
        self,
        update: Update,
        start: Progress,
        *,
        seed: int,
        signs: Iterator[Any] | None,
        donate: bool,
        compile: bool,
        policy: NonfinitePolicy,
    ) -> None:
        self.backend: Backend = update.backend
        self.progress = start
        self.steps = 0
        self.seed = seed
        self.policy = policy
        self.example: Any = None
        self.chosen: Chosen | None = None
        self._key = self.backend.key(seed)
        self._signs = signs
        self.donates = donate
        self._probed = False
        self._before: Callable[[], Any] = lambda: None
        self._compiles = compile or self.backend.compiled
        self._compile_step = self.backend.compile
        if compile and not self.backend.compiled:
            if not isinstance(self.backend, CompilesSteps):
                raise SettingError(
                    "Learner(compile=True): expected a backend with a compiler, got "
                    f"'{self.backend.name}'. Leave compile out, or try 'torch' or 'jax'."
                )
            self._compile_step = partial(self.backend.compile_step, donate=donate)
        self._use(update)

    def _use(self, update: Update) -> None:
        self.update = update
        self._advance = self._compile_step(update.advance)
        self._chunks = Chunks(update, donate=self.donates)

    def _choose(self, now: Progress, inputs: Any) -> None:
        """Choose the estimator by an item, if it is still to be chosen."""
        update = self.update
        if is_auto(update.estimator):
            estimator, self.chosen = chosen_for(
                update.estimator, update.dynamics, now.params, now.state, inputs
            )
            self._use(replace(update, estimator=estimator))

    def step(self, inputs: Any) -> Estimate:
        """Take one step on an item; `uoro.Learner.step` documents it."""
        inputs = self.backend.from_host(inputs)
        self.start(inputs)
        return self._step(inputs, self.next_signs())

    def run(self, stream: Iterator[Any], count: int, chunk: int, losses: list[float]) -> bool:
        """Take up to ``count`` steps, and append their losses.

        Args:
            stream: Items.
            count: Largest number of steps.
            chunk: Number of steps in a compiled loop.
            losses: List that the losses are appended to, even if the call raises.

        Returns:
            Whether the stream has not ended.
        """
        run = self._run_compiled if self.backend.compiled else self._run_each
        return run(stream, count, chunk, losses)

    def export(self) -> Saved:
        """Return what `uoro.Learner.export` returns."""
        arrays, numbers = export_progress(self.update, self.progress)
        counts = {
            "seed": self.seed,
            "steps": self.steps,
            "skipped": self.policy.skipped,
            "skipped_in_a_row": self.policy.skipped_in_a_row,
            "resets": self.policy.resets,
            "started": self.progress.carry is not None,
            "optimizer": numbers,
        }
        return Saved(arrays, counts)

    def restore(self, saved: Saved, inputs: Any, call: str) -> None:
        """Load what `export` returned; change nothing if it does not fit."""
        counts = require_counts(saved, call)
        if inputs is not None:
            self._choose(self.progress, inputs)
        elif counts["started"] and is_auto(self.update.estimator):
            raise SettingError(
                f"{call}: expected an item of the stream, by which estimator='auto' chooses, got "
                "none. Pass inputs=item, or name the estimator."
            )
        self.progress = restore_progress(self.update, self.progress, saved, inputs, call)
        self.example = self.example if inputs is None else inputs
        self._probed, self._before = False, lambda: None
        self.seed, self.steps = counts["seed"], counts["steps"]
        self.policy.skipped, self.policy.resets = counts["skipped"], counts["resets"]
        self.policy.skipped_in_a_row = counts["skipped_in_a_row"]
        self._key = self.backend.key(self.seed)

    def _started(self) -> bool:
        return self.progress.carry is not None

    def start(self, inputs: Any) -> None:
        """Check the model and build the carry, once the first item shows its shape."""
        if self._probed:
            return
        self.update.check(self.progress, inputs)
        self._choose(self.progress, inputs)
        if self.progress.carry is None:
            self.progress = self.update.start(self.progress, inputs)
        self.example = inputs
        self._probed = True

    def _step(self, inputs: Any, signs: Any) -> Estimate:
        after, estimate, fault = self._attempt(inputs, signs)
        if fault is not None and self.policy.choice == "reset":
            self.progress = self.policy.reset(self.update, self.progress, inputs, fault, self.steps)
            after, estimate, fault = self._attempt(inputs, signs)
        if fault is None:
            self.progress = after
            self.policy.skipped_in_a_row = 0
        else:
            cause = cause_of(self.backend, inputs, fault, before=self._before())
            if cause is None and self.policy.choice == "stop" and self.backend.compiled:
                cause = self._error_uncompiled(inputs, signs)
            self.policy.skip(self.backend, self.progress, fault, self.steps, cause)
        self.steps += 1
        self._before = lambda: inputs
        return estimate

    def _attempt(self, inputs: Any, signs: Any) -> tuple[Progress, Estimate, Fault | None]:
        """Take a step without keeping it; return what is not finite about it."""
        now, clock = self.progress, self.clock()
        after: Progress
        estimate: Estimate
        if self._compiles:
            if not self.backend.compiled:
                # Python numbers and keys would be compiled in as constants.
                if signs is None:
                    signs = self.update.draw(now, clock)
                precision = working_precision(self.backend, now.params)
                number = self.backend.from_host(float(self.steps), dtype=precision)
                clock = Clock(self._key, 0, number)
            after, estimate, size = self._advance(now, inputs, signs, clock)
            fault = fault_of(estimate, size)
            if fault is not None and self.donates and not self.backend.compiled:
                self.progress = after
                hint = cause_of(self.backend, inputs, fault)
                raise NonFiniteError(CALL, self.steps, *fault, kept=False, hint=hint)
            return after, estimate, fault
        # The optimizer may change the params in place: check the gradient first.
        carry, state, estimate = self.update.estimate(now, inputs, signs, clock)
        fault = fault_of(estimate, norm(self.backend, estimate.gradient))
        if fault is None:
            now = self.update.apply(now, carry, state, estimate.gradient, clock)
        return now, estimate, fault

    def _error_uncompiled(self, inputs: Any, signs: Any) -> str | None:
        """Return the error that a step raises if it is not compiled: a compiler has only NaN."""
        try:
            self.update.estimate(self.progress, inputs, signs, self.clock())
        except DerivativeError as error:
            return str(error)
        return None

    def clock(self) -> Clock:
        """Return the clock of the next step."""
        return Clock.at(self.backend, self._key, self.steps)

    def _run_each(self, stream: Iterator[Any], count: int, chunk: int, losses: list[float]) -> bool:
        nothing = object()
        while len(losses) < count:
            item = next(stream, nothing)
            if item is nothing:
                return False
            losses.append(float(self.step(item).loss))
        return True

    def _run_compiled(
        self, stream: Iterator[Any], count: int, chunk: int, losses: list[float]
    ) -> bool:
        inputs, got = read(self.backend, stream, min(count, self.clock().room))
        if not got:
            return False
        self.start(entry(self.backend, inputs, 0))
        signs = None
        if self._signs is not None:
            signs, drawn = read(self.backend, self._signs, got)
            self._require_signs(drawn == got)
        items = self._chunks.fill(inputs, signs, got, chunk)
        done = 0
        while done < got:
            attempt = self._chunks.advance(self.progress, items, self.clock(), done, got)
            if attempt.finite or self.donates:
                done += self._keep(attempt, losses, items, done)
                continue
            inputs, signs = (None if x is None else entry(self.backend, x, done) for x in items[:2])
            losses.append(float(self._step(inputs, signs).loss))
            done += 1
        return True

    def _keep(self, attempt: Attempt, losses: list[float], items: Items, done: int) -> int:
        """Keep the steps of a chunk behind those that are done, and return their number."""
        first, count = self.steps, len(attempt.losses)
        self.progress = attempt.after
        self.steps += count
        losses.extend(attempt.losses)
        if attempt.finite:
            self.policy.skipped_in_a_row = 0
            self._before = partial(entry, self.backend, items.inputs, done + count - 1)
            return count
        unfinite = (i for i, loss in enumerate(attempt.losses) if not math.isfinite(loss))
        failed = next(unfinite, count)
        fault, hint = ("the norm of the params", math.nan), None
        if failed < count:
            fault = LOSS, attempt.losses[failed]
            at = partial(entry, self.backend, items.inputs)
            before = at(done + failed - 1) if done + failed else self._before()
            hint = cause_of(self.backend, at(done + failed), fault, before=before)
        call = "Learner(donate=True).run(stream)"
        raise NonFiniteError(call, first + failed, *fault, kept=False, hint=hint)

    def next_signs(self) -> Any:
        """Return the next of the signs that replace the estimator's draws; ``None`` if none do."""
        if self._signs is None:
            return None
        nothing = object()
        signs = next(self._signs, nothing)
        self._require_signs(signs is not nothing)
        return self.backend.from_host(signs)

    def _require_signs(self, there: bool) -> None:
        if not there:
            raise StreamError(
                "Learner(signs=...): expected as many signs as items, got a stream that ended at "
                f"or soon after step {self.steps}. Give a longer stream of signs, or none."
            )
