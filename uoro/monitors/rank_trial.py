"""Trial runs of a rank on a model: inner products of independent gradients, and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

from uoro.algebra import entry, gram, repeat, working_precision
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.estimators import JointUORO
from uoro.estimators.scaling import Scaling
from uoro.estimators.streams import Streams

Products: TypeAlias = Sequence[Sequence[float]]
"""Inner products of replicas, summed over steps."""

TIMED = 3
"""Number of timed runs over the items, after one run that compiles."""


@dataclass(frozen=True)
class RankTrial:
    """A run on which every rank is tried.

    Args:
        dynamics: Model.
        params: θ, fixed.
        state: Hidden state before the first item.
        items: Stack of items.
        count: Number of items.
        skip: Number of first items that count for the time only.
        replicas: Number of replicas.
        seed: Seed of the signs.
        scaling: Scaling of the projections.
    """

    dynamics: Dynamics[Any, Any, Any]
    params: Any
    state: Any
    items: Any
    count: int
    skip: int
    replicas: int
    seed: int
    scaling: Scaling | None = None

    @property
    def _backend(self) -> Backend:
        return self.dynamics.backend

    def products(self, rank: int) -> tuple[Products, float]:
        """Return ``S_ij`` of the replicas, and the mean variance that a reduction added."""
        backend, estimator = self._backend, self._estimator(rank)
        used = self.count - self.skip
        precision = working_precision(backend, (self.params, self.state))
        weights = backend.collect([0.0] * self.skip + [1.0] * used)
        weights = backend.from_host(weights, dtype=precision)

        def run(params: Any, state: Any, items: Any, signs: Any) -> Any:
            def body(carried: Any, item: Any) -> Any:
                state, carries, total, added = carried
                (inputs, weight), drawn = item

                def one(carry: Any, signs: Any) -> Any:
                    carry, after, estimate = estimator.step(
                        self.dynamics, params, carry, state, inputs, signs
                    )
                    return carry, after, estimate.gradient

                carries, after, gradients = backend.vmap(one)(carries, drawn)
                total = total + weight * gram(backend, gradients, gradients)
                added = added + weight * carries.added.mean()
                return (entry(backend, after, 0), carries, total, added), ()

            carry: Any = estimator.init(self.dynamics, params, state)
            zeros = backend.zeros(params, batch=(self.replicas,))
            start = (
                state,
                repeat(backend, carry, self.replicas),
                gram(backend, zeros, zeros),
                0.0 * carry.added,
            )
            return backend.scan(body, start, (items, signs))[0][2:]

        follow = backend.compile(run)
        items = self.items, weights
        total, added = backend.to_host(
            follow(self.params, self.state, items, self._draw(estimator))
        )
        return total.tolist(), float(added) / used

    def time(self, rank: int) -> float:
        """Return the seconds of a step of one estimator, the sum over gradients included."""
        backend, estimator = self._backend, self._estimator(rank)

        def run(params: Any, state: Any, items: Any, signs: Any) -> Any:
            def body(carried: Any, item: Any) -> Any:
                state, carry, total = carried
                carry, state, estimate = estimator.step(self.dynamics, params, carry, state, *item)
                total = backend.combine((1.0, total), (1.0, estimate.gradient))
                return (state, carry, total), estimate.loss

            carry = estimator.init(self.dynamics, params, state)
            start = state, carry, backend.zeros(params)
            (_, _, total), losses = backend.scan(body, start, (items, signs))
            return total, losses

        signs = backend.map(lambda leaf: leaf[:, 0], self._draw(estimator))
        follow = backend.compile(run)

        def once() -> float:
            begin = perf_counter()
            backend.to_host(follow(self.params, self.state, self.items, signs))
            return perf_counter() - begin

        return min(once() for _ in range(1 + TIMED)) / self.count

    def _estimator(self, rank: int) -> JointUORO:
        return JointUORO(rank, scaling=self.scaling)

    def _draw(self, estimator: JointUORO) -> Any:
        """Draw the signs of every step and replica."""
        backend, total = self._backend, self.count * self.replicas
        key = backend.fold(backend.key(self.seed), estimator.rank)
        states = repeat(backend, self.state, total)
        each = Streams(estimator, total).draw(partial(backend.random, key), states)
        shape = self.count, self.replicas
        return backend.map(lambda leaf: leaf.reshape((*shape, *leaf.shape[1:])), each)


class Part(NamedTuple):
    """An estimate from all replicas, and its standard error."""

    value: float
    error: float


def signal(products: Products) -> Part:
    """Estimate ``Σ‖g‖²``: the mean of ``S_ij`` over i ≠ j."""
    return _jackknife(_across, products)


def relative_noise(products: Products, signal: Part) -> Part:
    """Estimate ``Σ E‖g̃ - g‖² / Σ‖g‖²``; NaN if the signal cannot be told from 0."""
    if not signal.value > 2 * signal.error:
        return Part(math.nan, math.nan)
    spread = _jackknife(lambda some: _own(some) - _across(some), products)
    relative = spread.value / signal.value
    return Part(relative, math.hypot(spread.error, relative * signal.error) / signal.value)


def _jackknife(statistic: Callable[[Products], float], products: Products) -> Part:
    """Return a statistic with its standard error, by the jackknife over replicas."""
    count = len(products)
    without = []
    for left_out in range(count):
        kept = [i for i in range(count) if i != left_out]
        without.append(statistic([[products[i][j] for j in kept] for i in kept]))
    middle = math.fsum(without) / count
    squares = math.fsum((value - middle) ** 2 for value in without)
    return Part(statistic(products), math.sqrt((count - 1) / count * squares))


def _own(products: Products) -> float:
    return math.fsum(row[i] for i, row in enumerate(products)) / len(products)


def _across(products: Products) -> float:
    count = len(products)
    others = (value for i, row in enumerate(products) for j, value in enumerate(row) if i != j)
    return math.fsum(others) / (count * (count - 1))
