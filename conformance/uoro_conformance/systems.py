"""Random systems: a structure and an integer seed, drawn by Hypothesis, printed as one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from uoro.backend import Backend
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics
from uoro.estimator import Estimator
from uoro.learning.host_noise import map_host
from uoro.models import InfluenceBalancing
from uoro_conformance.cells import EVERY_KIND, KINDS, WIDTH

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Trial:
    """What the exact checks run on; one is equal to itself alone.

    Attributes:
        dynamics: The model.
        params: One tree for each step. They differ from step to step: with constant params a
            stale one could not be told from the right one.
        state: The state before the first step.
        items: One item of the stream for each step.
        line: Line that reproduces the trial.
    """

    dynamics: Dynamics[Any, Any, Any]
    params: Sequence[Any]
    state: Any
    items: Sequence[Any]
    line: str = ""
    _unrolled: dict[int, Trial] = field(default_factory=dict, init=False, repr=False)

    @property
    def first(self) -> tuple[Dynamics[Any, Any, Any], Any, Any, Any]:
        """The dynamics and what they are given at the first step, as the laws take them."""
        return self.dynamics, self.params[0], self.state, self.items[0]

    @cached_property
    def points(self) -> list[tuple[Dynamics[Any, Any, Any], Any, Any, Any]]:
        """The dynamics and what they are given, at every step on the way."""
        found, state = list[tuple[Dynamics[Any, Any, Any], Any, Any, Any]](), self.state
        for params, item in zip(self.params, self.items, strict=True):
            found.append((self.dynamics, params, state, item))
            if len(found) < len(self.items):
                state = self.dynamics.forward(params, state, item).next_state
        return found

    def carry_of(self, estimator: Estimator) -> Any:
        """Build the carry that an estimator starts from."""
        return estimator.init(self.dynamics, self.params[0], self.state, inputs=self.items[0])

    def unrolled(self, length: int) -> Trial:
        """Return the trial whose steps are ``length`` steps of this one: memory-T, or chunks.

        Params are held fixed within each chunk; items that do not fill a chunk are left out.

        Args:
            length: Number of steps in one; 1 returns the trial itself.
        """
        if length == 1:
            return self
        if length not in self._unrolled:
            self._unrolled[length] = self._unroll(length)
        return self._unrolled[length]

    def _unroll(self, length: int) -> Trial:
        chunks = range(len(self.items) // length)
        collect = self.dynamics.backend.collect
        return Trial(
            unroll(self.dynamics, length),
            [self.params[chunk * length] for chunk in chunks],
            self.state,
            [collect(list(self.items[chunk * length :][:length])) for chunk in chunks],
            f"{self.line}, {length} steps as one",
        )


@dataclass(frozen=True)
class System:
    """A small random system; `repr` gives the line that makes it again.

    Attributes:
        kind: One of `EVERY_KIND`.
        n: Number of units in each layer.
        steps: Number of steps.
        seed: Determines every number.
    """

    kind: str
    n: int
    steps: int
    seed: int = 0

    def numbers(self) -> tuple[list[Any], Any, list[Any]]:
        """Draw the schedule of params, the state and the items, on the host in float64."""
        generator = np.random.default_rng([self.seed, self.n, self.steps])
        params, state = EVERY_KIND[self.kind].init(generator, self.n)
        schedule = [
            map_host(lambda leaf: leaf + 0.1 * generator.normal(size=np.shape(leaf)), params)
            for _ in range(self.steps)
        ]
        items = [
            {"x": generator.normal(size=WIDTH), "y": generator.normal(size=WIDTH)}
            for _ in range(self.steps)
        ]
        return schedule, state, items

    def is_lively(self) -> bool:
        """Whether at each step some unit keeps ``1 - h² >= 0.02``.

        Where every unit saturates, ``1 - tanh²`` cancels, and its rounding error is all that is
        left to compare.
        """
        kind = EVERY_KIND[self.kind]
        schedule, state, items = self.numbers()
        for params, item in zip(schedule, items, strict=True):
            state, _ = kind.transition(np, params, state, item)
            squashed = kind.activity(state)
            if np.size(squashed) and np.max(1 - np.asarray(squashed) ** 2) < 0.02:
                return False
        return True

    def build(self, backend: Backend, dtype: str = "float64") -> Trial:
        """Build the trial on a backend; call within ``backend.precision(dtype)``."""
        schedule, state, items = self.numbers()
        key: Any = (backend, self.kind)
        return Trial(
            _dynamics_of(*key),
            [backend.from_host(params, dtype=dtype) for params in schedule],
            backend.from_host(state, dtype=dtype),
            [backend.from_host(item, dtype=dtype) for item in items],
            f"{self!r}, {dtype} on {backend.name}",
        )


@cache
def _dynamics_of(backend: Backend, kind: str) -> Dynamics[Any, Any, Any]:
    """Build the dynamics of a kind once, so that a compiler sees one function for all seeds."""
    return backend.dynamics(partial(EVERY_KIND[kind].transition, backend.xp), check=False)


def systems(pool: Sequence[System] = ()) -> SearchStrategy[System]:
    """Draw systems, the simplest kind first: they shrink towards ``System('linear', 2, 3, 0)``.

    Needs hypothesis.

    Args:
        pool: If given, only the kinds and sizes of these are drawn, with any seed: for a backend
            that compiles for each shape.
    """
    from hypothesis import strategies as st

    seeds = st.integers(0, 2**32 - 1)
    if pool:
        ordered = sorted(pool, key=lambda system: list(KINDS).index(system.kind))
        drawn = st.builds(lambda system, seed: replace(system, seed=seed),
                          st.sampled_from(ordered), seeds)  # fmt: skip
    else:
        drawn = st.builds(
            System,
            st.sampled_from(list(KINDS)),
            st.sampled_from((2, 3, 1, 4)),
            st.sampled_from((3, 4, 2, 5)),
            seeds,
        )
    return drawn.filter(System.is_lively)


GALLERY = (
    System("tanh", 3, 4, 1),
    System("linear", 2, 3, 1),
    System("tied", 3, 3, 2),
    System("balancing", 4, 5, 3),
    System("preactivation", 3, 3, 4),
    System("leaky", 2, 4, 5),
    System("gru", 2, 3, 6),
    System("lstm", 2, 3, 7),
    System("stack", 2, 3, 8),
    System("leaves", 2, 3, 9),
)
"""Fixed systems, every kind once: the guarantee that does not depend on what is drawn."""


def influence_balancing(backend: Backend, *, steps: int = 100, dtype: str = "float64") -> Trial:
    """Build the trial on which truncated BPTT has the wrong sign, with params held fixed.

    There are 23 units, 13 of them with a negative sign, so that the late effects of θ outweigh the
    early ones, with the opposite sign.

    Args:
        backend: Backend of the arrays.
        steps: Number of steps; default 100.
        dtype: Dtype of all floating leaves; default float64.

    References:
        Figure 2a of the paper.
    """
    model = InfluenceBalancing(23, 13)
    dynamics = backend.dynamics(partial(model.transition, backend.xp), check=False)
    numbers = {"theta": np.array(0.01)}, np.zeros(23), np.zeros(())
    params, state, item = (backend.from_host(tree, dtype=dtype) for tree in numbers)
    line = f"influence balancing, 23 units, {steps} steps, {dtype} on {backend.name}"
    return Trial(dynamics, [params] * steps, state, [item] * steps, line)
