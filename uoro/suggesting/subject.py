"""One estimator on a trial: its gradients, their inner products, and the time of a step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from uoro.algebra import entry, repeat, size
from uoro.derivatives.unroll import unroll
from uoro.estimators.spelling import Choice
from uoro.estimators.streams import Streams
from uoro.learning.update import span_of
from uoro.suggesting.moments import Products
from uoro.suggesting.trial import Trial


class Reference(NamedTuple):
    """The gradient that others are compared with, block by block.

    Attributes:
        halves: For each block, two independent stacks of gradients; twice the same if exact.
        name: Name of the estimator that computed it.
        exact: Whether it is exact.
    """

    halves: list[tuple[Any, Any]]
    name: str
    exact: bool


class Ran(NamedTuple):
    """One block of one run.

    Attributes:
        gradients: Stack of gradients, one for each update; with several lanes each entry is a
            stack of them.
        added: Variance that the reductions added, for each update; empty without reductions.
        seconds: Time that the block took.
    """

    gradients: Any
    added: list[Any]
    seconds: float


class Subject:
    """One estimator on a trial.

    Where the backend compiles, one program runs a block of a single replica. Elsewhere a step is
    mapped over the replicas.

    Args:
        trial: The trial.
        choice: The estimator.
        number: Number of the subject; subjects of different numbers draw other signs.
    """

    def __init__(self, trial: Trial, choice: Choice, number: int = 0) -> None:
        backend, span = trial.backend, choice.span or 1
        self.trial, self.choice = trial, choice
        self.estimator = choice.estimator
        self.width = span * span_of(choice.estimator)
        """Number of items of an update."""
        self._dynamics = unroll(trial.dynamics, span) if span > 1 else trial.dynamics
        self._key = backend.fold(backend.key(trial.seed), number)
        first = entry(backend, trial.items, 0)
        if span > 1:
            first = entry(backend, trial.items, slice(0, span))  # What unrolled dynamics take.
        self._carry = self.estimator.init(self._dynamics, trial.params, trial.state, inputs=first)
        self._run_one = backend.compile(self._one)
        self.draws = self._draw(0) is not None
        """Whether the estimator draws signs."""

    @property
    def fits(self) -> bool:
        """Whether the blocks of the trial hold whole updates."""
        return not (self.trial.block % self.width or self.trial.skip % self.width)

    @property
    def numbers(self) -> int:
        """Number of numbers that the estimator carries."""
        return size(self.trial.backend, self._carry)

    def seconds(self) -> float:
        """Return the seconds that one item takes: state, loss and gradient, no optimizer."""
        ran = self._run(self._carry, self.trial.state, 0, 0)[2]
        return ran.seconds / self.trial.block

    def gradients(self, replicas: int) -> Iterator[list[Ran]]:
        """Run all replicas over the items; yield the gradients of each block, replica by replica.

        Updates within the items that are left out are no part of a block; a block may be empty.
        """
        trial, backend = self.trial, self.trial.backend
        mapped = replicas > 1 and not backend.compiled
        carries = [self._carry] * replicas
        if mapped:
            carries = [repeat(backend, self._carry, replicas)]
        state = trial.state
        for number in range(trial.count // trial.block):
            start = max(0, trial.skip - number * trial.block) // self.width
            every = list[Ran]()
            after = state
            for lane, carry in enumerate(carries):
                lanes = replicas if mapped else 0
                carries[lane], after, ran = self._run(carry, state, number, lane, lanes)
                used = entry(backend, ran.gradients, slice(start, None))
                added = [of_each[start:] for of_each in ran.added]
                every.append(ran._replace(gradients=used, added=added))
            state = after
            if mapped:
                every = [self._of_lane(every[0], lane) for lane in range(replicas)]
            yield every

    def products(self, replicas: int, reference: Reference | None) -> tuple[Products, float]:
        """Return inner products of replicas, summed over steps, and the mean variance added.

        Without a reference they are those of the gradients; with one, those that
        `uoro.suggesting.moments.moments_of` takes.
        """
        backend = self.trial.backend
        total: Any = None
        added, updates = 0.0, 0
        for number, every in enumerate(self.gradients(replicas)):
            stacks = [ran.gradients for ran in every]
            count = self._updates(number)
            if not count:
                continue
            halves: Any = ()
            if reference is not None:
                halves = [self._summed(half) for half in reference.halves[number]]
            part = backend.to_host(self.trial.multiply(stacks, halves))
            total = part if total is None else total + part
            updates += count
            added += sum(
                float(backend.to_host(of_each).sum()) / replicas
                for ran in every
                for of_each in ran.added
            )
        return total.tolist(), added / max(1, updates)

    def reference(self, replicas: int, exact: bool) -> Reference:
        """Return the gradient of this estimator as a reference: exact, or a mean of replicas."""
        backend = self.trial.backend
        halves = list[tuple[Any, Any]]()
        for every in self.gradients(1 if exact else replicas):
            stacks = [ran.gradients for ran in every]
            if exact:
                halves.append((stacks[0], stacks[0]))
            else:
                cut = replicas // 2
                one, other = (
                    backend.combine(*((1.0 / len(some), stack) for stack in some))
                    for some in (stacks[:cut], stacks[cut:])
                )
                halves.append((one, other))
        return Reference(halves, self.choice.name, exact)

    def _updates(self, number: int) -> int:
        """Return the number of updates of a block that are used."""
        left_out = max(0, self.trial.skip - number * self.trial.block)
        return max(0, self.trial.block - left_out) // self.width

    def _summed(self, stack: Any) -> Any:
        """Add up gradients of single items over the items of an update."""
        if self.width == 1:
            return stack

        def add(leaf: Any) -> Any:
            return leaf.reshape((-1, self.width, *leaf.shape[1:])).sum(1)

        return self.trial.backend.map(add, stack)

    def _of_lane(self, ran: Ran, lane: int) -> Ran:
        backend = self.trial.backend
        mine = backend.map(lambda leaf: leaf[:, lane], ran.gradients)
        return Ran(mine, ran.added, ran.seconds)

    def _run(
        self, carry: Any, state: Any, number: int, replica: int, lanes: int = 0
    ) -> tuple[Any, Any, Ran]:
        """Run a block; with lanes, a step is mapped over so many replicas."""
        trial, backend = self.trial, self.trial.backend
        first = number * trial.block
        items = entry(backend, trial.items, slice(first, first + trial.block))
        width, updates = self.width, trial.block // self.width
        if width > 1:
            items = backend.map(lambda leaf: leaf.reshape((-1, width, *leaf.shape[1:])), items)
        numbers = backend.collect([number * updates + i for i in range(updates)])
        key = backend.fold(self._key, replica)
        run = partial(self._many, lanes) if lanes else self._run_one
        begin = perf_counter()
        carry, state, (losses, gradients, *added) = run(
            trial.params, carry, state, items, key, numbers
        )
        backend.to_host(losses)
        return carry, state, Ran(gradients, added, perf_counter() - begin)

    def _draw(self, number: int) -> Any:
        random = partial(self.trial.backend.random, self.trial.backend.fold(self._key, number))
        return self.estimator.draw(random, self.trial.state)

    def _one(
        self, params: Any, carry: Any, state: Any, items: Any, key: Any, numbers: Any
    ) -> tuple[Any, Any, Any]:
        backend = self.trial.backend

        def body(carried: Any, item: Any) -> Any:
            carry, state = carried
            inputs, number = item
            random = partial(backend.random, backend.fold(key, number))
            signs = self.estimator.draw(random, state)
            carry, state, made = self.estimator.step(
                self._dynamics, params, carry, state, inputs, signs
            )
            return (carry, state), (made.loss, made.gradient, *_added(carry))

        (carry, state), seen = backend.scan(body, (carry, state), (items, numbers))
        return carry, state, seen

    def _many(
        self, lanes: int, params: Any, carries: Any, state: Any, items: Any, key: Any, numbers: Any
    ) -> tuple[Any, Any, Any]:
        backend, streams = self.trial.backend, Streams(self.estimator, lanes)

        def body(carried: Any, item: Any) -> Any:
            carries, state = carried
            inputs, number = item
            random = partial(backend.random, backend.fold(key, number))
            signs = streams.draw(random, repeat(backend, state, lanes))

            def one(carry: Any, signs: Any) -> Any:
                carry, after, made = self.estimator.step(
                    self._dynamics, params, carry, state, inputs, signs
                )
                return carry, after, made.loss, made.gradient

            carries, after, losses, gradients = backend.vmap(one)(carries, signs)
            added = [of_each.mean() for of_each in _added(carries)]
            return (carries, entry(backend, after, 0)), (losses[0], gradients, *added)

        (carries, state), seen = backend.scan(body, (carries, state), (items, numbers))
        return carries, state, seen


def _added(carry: Any) -> list[Any]:
    """Return the variance that the last reduction added, if there was one."""
    added = getattr(carry, "added", None)
    return [] if added is None else [added]
