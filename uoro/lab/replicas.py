"""Several learners side by side that differ only in seed, initial values and stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from uoro.algebra import entry, repeat
from uoro.arguments import (
    mismatch,
    require_callable,
    require_count,
    require_dynamics,
    require_list,
    require_optimizer,
    require_seed,
)
from uoro.dynamics import Dynamics
from uoro.errors import NonFiniteError, SettingError, spelled
from uoro.estimator import Estimator
from uoro.estimators.auto import require_estimator
from uoro.learning.carry import Metrics, Progress
from uoro.learning.learner import Learner
from uoro.learning.stream import read
from uoro.learning.update import Clock, Update
from uoro.learning.windows import windowed
from uoro.optimizer import Optimizer

Losses: TypeAlias = list[list[float]]
"""One list of losses per replica."""


class Replicas:
    """Run the same learner with several seeds, to see how much results vary.

    Where the backend compiles, several replicas run in one mapped loop, otherwise one after the
    other. Each replica is a `uoro.Learner` with its own parameters, state, stream and seed, except
    that a loss that is not finite raises no error: the losses of that replica are not finite from
    there on.

    Args:
        dynamics: Model.
        estimator: Gradient estimator.
        optimizer: Optimizer.
        starts: Initial parameters and hidden state of each replica, a list of pairs.
        seeds: Seed of each replica.

    Raises:
        SettingError: If seeds and starts differ in number or there are none, or an argument has
            another type.

    Example:
        >>> from itertools import repeat
        >>> from uoro import SGD, UORO, load_backend
        >>> from uoro.lab import Replicas
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> def transition(theta, state, target):
        ...     next_state = 0.5 * state + theta
        ...     return next_state, 0.5 * xp.sum((next_state - target) ** 2)
        >>> starts = [(xp.array(0.0), xp.zeros(3)), (xp.array(1.0), xp.zeros(3))]
        >>> replicas = Replicas(
        ...     backend.dynamics(transition), UORO(), SGD(0.01), starts, seeds=[0, 1])
        >>> replicas.run([repeat(1.0), repeat(1.0)], steps=200)
        200
        >>> [bool(abs(params - 0.5) < 0.02) for params in replicas.params]
        [True, True]
    """

    def __init__(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        optimizer: Optimizer,
        starts: Sequence[tuple[Any, Any]],
        *,
        seeds: Sequence[int],
    ) -> None:
        require_dynamics("Replicas(dynamics, …)", dynamics)
        require_estimator("Replicas(estimator=...)", estimator)
        optimizer = require_optimizer("Replicas(optimizer=...)", optimizer)
        call = f"Replicas(starts, seeds={spelled(seeds)})"
        starts = require_list(call, "starts", starts)
        seeds = [require_seed(call, seed) for seed in require_list(call, "seeds", seeds)]
        if not all(isinstance(start, tuple) and len(start) == 2 for start in starts):
            raise SettingError(mismatch(call, "starts", "tuples (params, state)", spelled(starts)))
        if not starts or len(starts) != len(seeds):
            raise SettingError(
                f"{call}: expected as many seeds as starts, at least one, got {len(seeds)} seeds "
                f"and {len(starts)} starts."
            )
        self.steps = 0
        self._backend = dynamics.backend
        self._seeds = seeds
        self._update = Update(dynamics, estimator, optimizer)
        self._starts = starts
        self._learners: list[Learner] = []
        self._progress: Progress | None = None
        if not self._backend.compiled or len(starts) == 1:
            self._learners = [
                Learner(dynamics, estimator, optimizer, params, state, seed=seed)
                for (params, state), seed in zip(starts, seeds, strict=True)
            ]
        self._advance = self._backend.compile(self._backend.vmap(self._advance_one))

    @property
    def params(self) -> list[Any]:
        """Parameters of each replica."""
        if self._learners:
            return [learner.params for learner in self._learners]
        if self._progress is None:
            return [params for params, _ in self._starts]
        return [entry(self._backend, self._progress.params, i) for i in range(len(self._starts))]

    def run(
        self,
        streams: Sequence[Iterable[Any]],
        steps: int,
        *,
        chunk: int = 256,
        report: Callable[[int, Losses], None] | None = None,
    ) -> int:
        """Take many steps with each replica.

        Args:
            streams: Stream of each replica, endless or all of one length.
            steps: Largest number of steps.
            chunk: Largest number of steps between two reports, default 256.
            report: Function called with the index of the first step of a chunk and the losses of
                each replica; missing losses of a replica that failed are NaN.

        Returns:
            The number of steps.

        Raises:
            SettingError: If streams and replicas differ in number, or a number is out of range.
            StreamError: If a stream is not iterable.
        """
        call = f"Replicas.run(streams, steps={spelled(steps)}, chunk={spelled(chunk)})"
        steps = require_count(call, "steps", steps, least=0)
        chunk = require_count(call, "chunk", chunk)
        streams = require_list(call, "streams", streams)
        if len(streams) != len(self._starts):
            raise SettingError(
                f"{call}: expected {len(self._starts)} streams, one per replica, got "
                f"{len(streams)}."
            )
        if report is not None:
            require_callable(call, "report", report, "a function or None")
        each = [windowed(self._update, stream, call) for stream in streams]
        taken = 0
        while taken < steps:
            count = min(chunk, steps - taken)
            losses = (
                self._run_each(each, count) if self._learners else self._run_mapped(each, count)
            )
            got = len(losses[0])
            if got and report is not None:
                report(self.steps, losses)
            self.steps += got
            taken += got
            if got < count:
                break
        return taken

    def _advance_one(
        self, now: Progress, inputs: Any, seed: Any, first: Any, indices: Any
    ) -> tuple[Progress, Any]:
        clock = Clock(self._backend.key(seed), 0, first)
        now, losses, _ = self._update.advance_chunk(now, inputs, None, clock, indices)
        return now, losses

    def _run_mapped(self, streams: Sequence[Iterator[Any]], count: int) -> Losses:
        backend = self._backend
        blocks = [read(backend, stream, count) for stream in streams]
        got = min(number for _, number in blocks)
        if not got:
            return [[] for _ in streams]
        items = self._stack([entry(backend, block, slice(0, got)) for block, _ in blocks])
        if self._progress is None:
            self._progress = self._start(entry(backend, entry(backend, items, 0), 0))
        seeds = backend.collect(self._seeds)
        first = backend.collect([self.steps] * len(streams))
        each = repeat(backend, backend.xp.arange(got), len(streams))
        self._progress, losses = self._advance(self._progress, items, seeds, first, each)
        done: Losses = backend.to_host(losses).tolist()
        return done

    def _run_each(self, streams: Sequence[Iterator[Any]], count: int) -> Losses:
        losses: Losses = []
        longest = 0
        for learner, stream in zip(self._learners, streams, strict=True):
            kept: list[float] = []

            def keep(metrics: Metrics, kept: list[float] = kept) -> None:
                kept.extend(metrics.losses)

            failed = learner.steps < self.steps
            try:
                if not failed:
                    learner.run(stream, count, chunk=count, report=keep)
            except NonFiniteError:
                failed = True
            losses.append(kept + [math.nan] * (count - len(kept)) if failed else kept)
            longest = max(longest, len(losses[-1]))
        return [kept + [math.nan] * (longest - len(kept)) for kept in losses]

    def _start(self, item: Any) -> Progress:
        backend = self._backend
        starts = [
            Progress(backend.from_host(params), backend.from_host(state), None, None)
            for params, state in self._starts
        ]
        self._update.check(starts[0], item)
        each = [self._update.start(now, item) for now in starts]
        return Progress(*(self._stack([now[i] for now in each]) for i in range(len(each[0]))))

    def _stack(self, trees: list[Any]) -> Any:
        stack = self._backend.xp.stack
        return self._backend.map(lambda *leaves: stack(leaves), *trees)
