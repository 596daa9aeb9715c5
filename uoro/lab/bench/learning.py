"""The rows of every backend: the forward pass, and a `Learner` on a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from uoro.algebra import entry, repeat
from uoro.backend import Backend
from uoro.derivatives.routes import probe
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics
from uoro.lab.bench.instrument import BenchModel, Instrument, PeakMemory
from uoro.lab.bench.rows import Row
from uoro.learning.carry import Progress
from uoro.learning.learner import Learner
from uoro.learning.optimizers import Adam
from uoro.learning.update import Clock, Update
from uoro.optimizer import Optimizer
from uoro.schedules import inverse_sqrt

LEARNING_RATE, DECAY = 1e-3, 0.03
LONGEST = 1024
"""Largest number of items per call; a backend that compiles runs them in one loop."""

EAGER = 16
"""Items per call where Python runs each step."""

NUMBERS = 2e7
"""Approximate count of numbers updated per call."""


def optimizer() -> Optimizer:
    """Return the optimizer of all rows: that of the library's next-symbol tasks."""
    return Adam(inverse_sqrt(LEARNING_RATE, DECAY))


def items_of(row: Row, backend: Backend, params: int, state: int) -> int:
    """Return the number of items per call: whole windows, in limited time."""
    work = row.work
    longest = EAGER
    if backend.compiled:
        carried = state if work.kind == "rtrl" else work.rank
        longest = int(min(LONGEST, max(4, NUMBERS / (params * carried * work.streams))))
    return max(1, longest // work.span) * work.span


class Again:
    """A stream that repeats the same items, all on the device.

    Args:
        backend: Backend of the arrays.
        block: Stack of steps.
        count: Number of steps.
        window_length: Number of items in a step.
    """

    def __init__(self, backend: Backend, block: Any, count: int, *, window_length: int) -> None:
        self.window_length = window_length
        self._block = block
        self._count = count
        self._items = [] if backend.compiled else [entry(backend, block, i) for i in range(count)]
        self._next = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._next = (self._next + 1) % self._count
        return self._items[self._next]

    def take(self, count: int) -> Any:
        """Return the block, which is always requested as a whole."""
        return self._block


class Forward:
    """The forward pass alone."""

    def __init__(
        self,
        dynamics: Dynamics[Any, Any, Any],
        problem: BenchModel,
        items: int,
        instrument: Instrument,
    ) -> None:
        self.items = items
        backend = dynamics.backend
        self._backend = backend
        self._instrument = instrument
        self._start = problem.params, problem.state
        self._symbols = problem.symbols(items)
        probe(dynamics, *self._start, entry(backend, self._symbols, 0))

        def go(params: Any, state: Any, symbols: Any) -> tuple[Any, Any]:
            def body(state: Any, item: Any) -> tuple[Any, Any]:
                outcome = dynamics.forward(params, state, item)
                return outcome.next_state, outcome.loss

            return backend.scan(body, state, symbols)

        self._go = backend.compile(go)

    def run(self) -> None:
        """Process the items."""
        _, losses = self._go(*self._start, self._symbols)
        self._backend.to_host(losses)
        self._instrument.wait()

    def memory(self) -> PeakMemory | None:
        """Return what the compiler knows."""
        return self._instrument.program_memory(self._go, *self._start, self._symbols)


class Learning:
    """A `Learner` on the stream."""

    def __init__(
        self,
        dynamics: Dynamics[Any, Any, Any],
        row: Row,
        problem: BenchModel,
        items: int,
        instrument: Instrument,
    ) -> None:
        assert row.estimator is not None
        self.items = items
        work, backend = row.work, dynamics.backend
        self._steps = items // work.span
        self._instrument = instrument
        state = problem.state
        if work.span > 1:
            dynamics = unroll(dynamics, work.span)
        if "@" in row.name:
            state = repeat(backend, state, work.streams)
        block = backend.map(self._cut(row), problem.symbols(items * work.streams))
        self._stream = Again(backend, block, self._steps, window_length=work.span)
        self._block = block
        self._learner = Learner(
            dynamics, row.estimator, optimizer(), problem.params, state, donate=True
        )
        self._update = Update(dynamics, row.estimator, optimizer())

    def _cut(self, row: Row) -> Callable[[Any], Any]:
        """Return a function that shapes a stack of symbols for this row."""
        work, steps = row.work, self._steps
        shape = (steps,) + ((work.streams,) if "@" in row.name else ())
        shape += (work.span,) if work.span > 1 else ()
        return lambda leaf: leaf.reshape(shape)

    def run(self) -> None:
        """Take the steps."""
        self._learner.run(self._stream, self._steps, chunk=self._steps)
        self._instrument.wait()

    def memory(self) -> PeakMemory | None:
        """Return what the compiler knows of the chunk that `Learner.run` compiles."""
        learner, update = self._learner, self._update
        backend = learner.backend
        if not backend.compiled:
            return None
        now = update.start(
            Progress(learner.params, learner.state, None, None),
            backend.map(lambda leaf: leaf[0], self._block),
        )
        clock = Clock.at(backend, backend.key(0), 0)
        indices = backend.xp.arange(self._steps)
        chunk = backend.compile(update.advance_chunk, donate=True)
        return self._instrument.program_memory(
            chunk, now, self._block, None, clock, indices, (0, self._steps)
        )
