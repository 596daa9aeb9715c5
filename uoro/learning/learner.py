"""The loop: a stream goes in, the params learn, metrics come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from uoro.algebra import differentiable, norm, select, working_precision
from uoro.arguments import (
    require_callable,
    require_choice,
    require_count,
    require_dynamics,
    require_estimator,
    require_flag,
    require_like,
    require_optimizer,
    require_stack,
    require_stream,
)
from uoro.backend import Backend
from uoro.deprecation import renamed_keywords
from uoro.derivatives.routes import probe
from uoro.dynamics import Dynamics
from uoro.errors import NonFiniteError, SettingError, StreamError, StructureError, spelled
from uoro.estimator import Estimate, Estimator
from uoro.estimators.streams import ParallelEstimator
from uoro.learning.carry import Metrics, Progress, Summary
from uoro.learning.log import LOGGER
from uoro.learning.saved import Saved, keeper, named_arrays, restored
from uoro.learning.stream import read
from uoro.learning.update import Clock, Update
from uoro.optimizer import Optimizer

OnNonfinite: TypeAlias = Literal["stop", "skip", "reset"]
LONGEST_CHUNK = 2**24
"""In steps: the items of a chunk are in memory together."""
PATIENCE = 100
"""How many items in a row may be skipped."""


@renamed_keywords("Learner", {"noise": "signs"})
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
        signs: A stream of the estimator's noise to use in place of its own draws.
        donate: Whether a compiled chunk of `run`, or with ``compile`` a step, may overwrite the
            params, the optimizer's memory and the pair that it starts from. That halves what they
            take, and there is no going back over one with a loss that is not finite. Arrays taken
            from the learner before are then gone or overwritten; those it was made of are not.
        compile: Whether to compile the whole step where the framework runs it eagerly and has a
            compiler, as PyTorch has: the optimizer must then be one of this library's. The first
            step takes half a minute or so. JAX compiles always.
        on_nonfinite: What to do where the loss or the gradient is not finite. ``"stop"``: raise.
            ``"skip"``: leave the item out. ``"reset"``: start the estimator's memory anew, which
            forgets how the state came to be, and the state too if it is not finite; try the item
            again, and leave it out if that was not it. What happens is counted and logged, and a
            hundred items left out in a row are an error all the same.

    Attributes:
        steps: How many steps were taken, those included that were left out.
        skipped: How many items were left out.
        resets: How often the memory started anew.

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
        signs: Iterable[Any] | None = None,
        donate: bool = False,
        compile: bool = False,
        on_nonfinite: OnNonfinite = "stop",
    ) -> None:
        require_choice(_MAKE, "on_nonfinite", on_nonfinite, get_args(OnNonfinite))
        if donate is True and on_nonfinite != "stop":
            raise SettingError(
                f"Learner(donate=True, on_nonfinite={on_nonfinite!r}): what was given away cannot "
                "be gone back to. Leave one of the two out."
            )
        require_dynamics(_MAKE, dynamics)
        require_estimator(_MAKE, estimator)
        for what, flag in (("donate", donate), ("compile", compile)):
            require_flag(_MAKE, what, flag)
        self.dynamics = dynamics
        self.estimator = estimator
        self.optimizer = require_optimizer(_MAKE, optimizer)
        self.steps = 0
        self.skipped = 0
        self.resets = 0
        backend = self.backend
        self._progress = Progress(backend.from_host(params), backend.from_host(state), None, None)
        if not differentiable(backend, self._progress.params):
            raise StructureError(f"{_MAKE}: there is no floating number in the params to train.")
        self._initial_state = self._progress.state
        self._on_nonfinite = on_nonfinite
        self._skipped_in_a_row = 0
        self._example: Any = None
        self._probed = False
        self._seed = seed
        self._key = backend.key(seed)
        self._noise = None if signs is None else require_stream("Learner(signs=...)", signs)
        self._update = Update(dynamics, estimator, self.optimizer)
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
    def carry(self) -> Any:
        """The estimator's present memory; ``None`` before the first step."""
        return self._progress.carry

    def step(self, inputs: Any) -> Estimate:
        """Take one step: estimate the gradient on one item, then update the params.

        Args:
            inputs: One item of the stream; for unrolled dynamics a stack of T, for `Streams` a
                stack of B.

        Returns:
            The estimate that was used; or that was not, if the item was left out.

        Raises:
            NonFiniteError: If the loss or the gradient is not finite, unless ``on_nonfinite`` says
                otherwise; nothing was updated then.
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
                last step taken, so that a later call goes on where this one stopped. One with
                `take` may give fewer items than it is asked for, if there are no more as yet.
            steps: How many to take at most; as many as the stream has if not given.
            chunk: How many steps to take between two reports, at most; where the backend compiles,
                they run as one compiled loop, which is compiled once: for one ``chunk``, how many
                steps are taken at a time changes no bit of what comes of them.
            report: Called with the `Metrics` of every chunk as it is done.

        Returns:
            How many steps were taken, and the mean of their finite losses.

        Raises:
            NonFiniteError: If a loss or a gradient is not finite, unless ``on_nonfinite`` says
                otherwise. The steps before it count, and the learner is as it was before the
                offending one. A compiled chunk has then been read from the stream to its end.
            StreamError: If the noise was given as a stream and has ended.
        """
        call = f"Learner.run(steps={spelled(steps)}, chunk={spelled(chunk)})"
        steps = None if steps is None else require_count(call, "steps", steps, least=0)
        chunk = require_count(call, "chunk", chunk)
        if chunk > LONGEST_CHUNK:
            raise SettingError(f"{call}: a chunk is at most {LONGEST_CHUNK} steps.")
        if report is not None:
            require_callable(call, "report", report, "a function of Metrics")
        stream = require_stream(call, stream)
        total, last, taken, finite = 0.0, math.nan, 0, 0
        while steps is None or taken < steps:
            count = chunk if steps is None else min(chunk, steps - taken)
            first = self.steps
            losses: list[float] = []
            try:
                more = (
                    self._run_compiled(stream, count, chunk, losses)
                    if self.backend.compiled
                    else self._run_each(stream, count, losses)
                )
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
        """Give everything that determines what this learner does next, but the stream.

        Returns:
            Host arrays and numbers, which `uoro.checkpoint` writes to a file; `restore` of a
            learner made alike goes on from there, bit for bit.

        Raises:
            SettingError: If the optimizer keeps what cannot be exported.
        """
        backend, now = self.backend, self._progress
        own = keeper(self.optimizer)
        kept, numbers = (now.optimizer, None) if own is None else own.export(backend)
        arrays = named_arrays(backend, now.params, "params")
        arrays |= named_arrays(backend, now.state, "state")
        if self._started:
            arrays |= named_arrays(backend, now.carry, "memory")
            arrays |= named_arrays(backend, kept, "optimizer")
        counts = {
            "seed": self._seed,
            "steps": self.steps,
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
            "resets": self.resets,
            "started": self._started,
            "optimizer": numbers,
        }
        return Saved(arrays, counts)

    def restore(self, saved: Saved, *, inputs: Any = None) -> None:
        """Become what another learner was, or this one at another time.

        Args:
            saved: What `export` gave, of a learner of the same model, estimator and optimizer, on
                whatever backend.
            inputs: One item of the stream, which estimators need that store items, such as
                `RollingTruncated`.

        Raises:
            StructureError: If it was another model, estimator or optimizer. Nothing has changed.
            SettingError: If the estimator needs an item and there is none.
        """
        call = f"{type(self).__name__}.restore(saved)"
        try:
            counts = {name: saved.counts[name] for name in _COUNTS}
            for name in _NUMBERS:
                if type(counts[name]) is not int or counts[name] < 0:
                    raise TypeError(f"'{name}' is {counts[name]!r:.60}")
        except (KeyError, TypeError, AttributeError) as error:
            raise StructureError(
                f"{call}: that is not what export() gives ({type(error).__name__}: {error})."
            ) from error
        backend, now = self.backend, self._progress
        arrays = saved.arrays
        params = restored(backend, now.params, arrays, "params", call)
        state = restored(backend, now.state, arrays, "state", call)
        after = Progress(params, state, None, None)
        own = keeper(self.optimizer)
        if counts["started"]:
            if inputs is not None:
                inputs = backend.from_host(inputs)
            fresh = self._update.start(now, inputs)
            after = after._replace(
                carry=restored(backend, fresh.carry, arrays, "memory", call),
                optimizer=fresh.optimizer
                if own is not None
                else restored(backend, fresh.optimizer, arrays, "optimizer", call),
            )
        if own is not None:
            # It changes its params in place, so these have to stay the very same.
            own.restore(backend, now.params, params, arrays, counts["optimizer"])
            after = after._replace(params=now.params)
        self._progress = after
        self._example = self._example if inputs is None else inputs
        self._probed = False
        self._seed, self.steps = counts["seed"], counts["steps"]
        self.skipped, self.resets = counts["skipped"], counts["resets"]
        self._skipped_in_a_row = counts["skipped_in_a_row"]
        self._key = backend.key(self._seed)

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
        mask = self.backend.from_host(mask)
        if not hasattr(mask, "shape"):
            raise StructureError(
                f"Learner.reset(mask={spelled(mask)}): wanted is an array of booleans, one for "
                "each stream."
            )
        for what, stack in (("mask", mask), ("fresh", fresh)):
            call = f"Learner.reset({what}=...)"
            require_stack(self.backend, stack, len(self.estimator.rows), call)
        require_like(
            self.backend,
            fresh,
            now.state,
            call="Learner.reset(fresh=...)",
            hint="Give a stack of states to start from.",
        )
        if not self._started:
            self._progress = now._replace(state=select(self.backend, mask, fresh, now.state))
            return
        carry, state = self.estimator.reset(
            self.dynamics,
            now.params,
            now.carry,
            now.state,
            mask,
            fresh,
            inputs=self._example,
        )
        self._progress = now._replace(carry=carry, state=state)

    @property
    def _started(self) -> bool:
        return self._progress.carry is not None

    def _start(self, inputs: Any) -> None:
        """Make the memories, once the first item shows its shape."""
        if self._probed:
            return
        now = self._progress
        first = (now.state, inputs)
        if isinstance(self.estimator, ParallelEstimator):
            first = self._item(first, 0)
        probe(self.dynamics, now.params, *first)
        if not self._started:
            self._progress = self._update.start(now, inputs)
        self._example = inputs
        self._probed = True

    def _step(self, inputs: Any, signs: Any) -> Estimate:
        after, estimate, fault = self._attempt(inputs, signs)
        if fault is not None and self._on_nonfinite == "reset":
            self._start_memory_anew(inputs, fault)
            after, estimate, fault = self._attempt(inputs, signs)
        if fault is None:
            self._progress = after
            self._skipped_in_a_row = 0
        else:
            self._leave_out(fault)
        self.steps += 1
        return estimate

    def _attempt(self, inputs: Any, signs: Any) -> tuple[Progress, Estimate, _Fault | None]:
        """Take a step without keeping it; say what is not finite about it."""
        now, clock = self._progress, self._clock()
        after: Progress
        estimate: Estimate
        if self._compiles:
            if not self.backend.compiled:
                # Numbers and keys of Python's would be compiled in.
                if signs is None:
                    signs = self._update.draw(now, clock)
                precision = working_precision(self.backend, now.params)
                number = self.backend.from_host(float(self.steps), dtype=precision)
                clock = Clock(self._key, 0, number)
            after, estimate, size = self._advance_compiled(now, inputs, signs, clock)
            fault = _fault(estimate, size)
            if fault is not None and self._donates and not self.backend.compiled:
                self._progress = after
                raise NonFiniteError(_CALL, self.steps, *fault, kept=False)
            return after, estimate, fault
        # An optimizer of the user's may change the params in place: look before it does.
        carry, state, estimate = self._update.estimate(now, inputs, signs, clock)
        fault = _fault(estimate, norm(self.backend, estimate.gradient))
        if fault is None:
            now = self._update.apply(now, carry, state, estimate.gradient, clock)
        return now, estimate, fault

    def _clock(self) -> Clock:
        return Clock.at(self.backend, self._key, self.steps)

    def _start_memory_anew(self, inputs: Any, fault: _Fault) -> None:
        """Forget what the memory holds, and the state if it cannot be gone on from."""
        now = self._progress
        lost = not self._is_finite(now.state)
        state = self._initial_state if lost else now.state
        carry = self.estimator.init(self.dynamics, now.params, state, inputs=inputs)
        self._progress = now._replace(carry=carry, state=state)
        self.resets += 1
        LOGGER.warning(
            "%s is %s at step %d: the memory%s started anew",
            *(*fault, self.steps, " and the state" if lost else ""),
        )

    def _leave_out(self, fault: _Fault) -> None:
        """Skip an item, unless that is not wanted, or would be no help."""
        now = self._progress
        held = (("params", now.params), ("state", now.state), ("memory", now.carry))
        broken = [name for name, tree in held if not self._is_finite(tree)]
        hint = None
        if broken:
            hint = (
                f"The {' and the '.join(broken)} held were not finite before it already, so that "
                "leaving the item out is no help. Go back to a checkpoint, or take "
                "on_nonfinite='reset'."
            )
        elif self._skipped_in_a_row + 1 >= PATIENCE:
            hint = f"That makes {PATIENCE} items in a row. Look at the stream."
        if self._on_nonfinite == "stop" or hint is not None:
            raise NonFiniteError(_CALL, self.steps, *fault, hint=hint)
        self.skipped += 1
        self._skipped_in_a_row += 1
        LOGGER.warning("%s is %s at step %d: the item is left out", *fault, self.steps)

    def _is_finite(self, tree: Any) -> bool:
        return math.isfinite(float(norm(self.backend, differentiable(self.backend, tree))))

    def _run_each(self, stream: Iterator[Any], count: int, losses: list[float]) -> bool:
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
        inputs, got = read(self.backend, stream, min(count, self._clock().room))
        if not got:
            return False
        self._start(self._item(inputs, 0))
        signs = None
        if self._noise is not None:
            signs, drawn = read(self.backend, self._noise, got)
            self._require_noise(drawn == got)
        # One length for all chunks is one loop to compile, which rounds alike in all of them.
        inputs, signs = (self._fill(stack, got, chunk) for stack in (inputs, signs))
        items = (inputs, signs, self.backend.xp.arange(chunk))
        done = 0
        while done < got:
            done += self._advance_chunk(items, done, got, losses)
        return True

    def _advance_chunk(
        self, items: tuple[Any, Any, Any], first: int, end: int, losses: list[float]
    ) -> int:
        """Take the steps of a chunk that come before one that fails, or that one.

        Returns:
            How many were taken.
        """
        after, each, fine = self._attempt_chunk(items, first, end)
        if not fine and self._donates:
            self._progress = after
            losses.extend(each)
            self._refuse_to_go_back(losses)
        if not fine:
            # The loop does not say which step it was: narrow it down.
            bad = next((first + i for i, x in enumerate(each) if not math.isfinite(x)), end - 1)
            good, bad = first, bad + 1
            while bad - good > 1:
                middle = bad - 1 if bad == end else (good + bad) // 2
                if self._attempt_chunk(items, first, middle)[2]:
                    good = middle
                else:
                    bad = middle
            if good > first:
                after, each, fine = self._attempt_chunk(items, first, good)
        if fine:
            self._progress = after
            self.steps += len(each)
            self._skipped_in_a_row = 0
            losses.extend(each)
            return len(each)
        inputs, signs = (None if x is None else self._item(x, first) for x in items[:2])
        losses.append(float(self._step(inputs, signs).loss))
        return 1

    def _attempt_chunk(
        self, items: tuple[Any, Any, Any], first: int, end: int
    ) -> tuple[Progress, list[float], bool]:
        """Take steps without keeping them; say whether everything is finite."""
        inputs, signs, indices = items
        clock = self._clock()
        clock = clock._replace(number=clock.number - first)
        after, done, size = self._advance_chunk_compiled(
            self._progress, inputs, signs, clock, indices, (first, end)
        )
        losses: list[float] = self.backend.to_host(done).tolist()[first:end]
        return after, losses, all(map(math.isfinite, losses)) and math.isfinite(float(size))

    def _fill(self, stack: Any, got: int, length: int) -> Any:
        """Repeat the last of ``got`` items until there are as many as a compiled loop is for."""
        if stack is None or got == length:
            return stack
        index = self.backend.collect([min(i, got - 1) for i in range(length)])
        return self.backend.map(lambda leaf: leaf[index], stack)

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
        signs = next(self._noise, nothing)
        self._require_noise(signs is not nothing)
        return self.backend.from_host(signs)

    def _require_noise(self, there: bool) -> None:
        if not there:
            raise StreamError(
                f"Learner(signs=...): the stream of signs ended at or soon after step {self.steps}."
                " Give one that lasts as long as the stream of items, or none."
            )


_Fault: TypeAlias = tuple[str, float]
_MAKE = "Learner(...)"
_CALL = "Learner.step(inputs)"
_NUMBERS = ("seed", "steps", "skipped", "skipped_in_a_row", "resets")
_COUNTS = (*_NUMBERS, "started", "optimizer")


def _fault(estimate: Estimate, size: Any) -> _Fault | None:
    """Say what is not finite, and what it is."""
    for what, value in (("the loss", estimate.loss), ("the norm of the gradient", size)):
        if not math.isfinite(float(value)):
            return what, float(value)
    return None
