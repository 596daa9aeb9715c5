"""One step of an estimator over all sign designs, and what exact RTRL makes of it."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

from uoro.algebra import coordinates, mix, size
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.estimator import Estimator
from uoro_conformance.designs import as_noise, flat_pairs, hadamard_designs


class Reading(NamedTuple):
    """One step over all designs.

    Attributes:
        outer: Mean over the designs of the influence that the new memory stands for.
        weight: Norm of the mean of its absolute terms: what rounding is relative to.
        gradients: The gradient under each design.
        memory: The memory that each design leads to.
        next_state: The next state under the first design.
    """

    outer: Any
    weight: Any
    gradients: Any
    memory: Any
    next_state: Any


class Truth(NamedTuple):
    """What one step must give.

    Attributes:
        outer: ``K + ∂F/∂s · (influence that the old memory stands for)``.
        scale: ``‖K‖ + ‖∂F/∂s s̃‖ ‖θ̃‖``, pairs averaged.
        gradient: ``∂ℓ/∂s · influence + ∂ℓ/∂θ``.
    """

    outer: Any
    scale: Any
    gradient: Any


class Apparatus:
    """The computations of the exact checks, compiled once for dynamics and an estimator.

    Args:
        dynamics: The model.
        estimator: Its memory has ``tangent`` and ``cotangent``; with rank k they are stacks.
    """

    def __init__(self, dynamics: Dynamics[Any, Any, Any], estimator: Estimator) -> None:
        self.dynamics, self.estimator = dynamics, estimator
        self.backend: Backend = dynamics.backend
        self.rank: int = getattr(estimator, "rank", 1)
        self.over_designs = self.backend.compile(self._over_designs)
        self.truth = self.backend.compile(self._truth)
        self.step = self.backend.compile(partial(estimator.step, dynamics))

    def pairs(self, memory: Any) -> tuple[Any, Any]:
        """Give the memory's tangents and cotangents as stacks of `rank`."""
        if self.rank > 1:
            return memory.tangent, memory.cotangent
        lift = partial(self.backend.map, lambda leaf: leaf[None])
        return lift(memory.tangent), lift(memory.cotangent)

    def noise(self, state: Any, rows: Any) -> Any:
        """Shape rows of signs, each of rank × n numbers, into a stack of noise trees."""
        return as_noise(self.backend, state, rows, self.rank)

    def designs(self, state: Any, seed: int) -> Any:
        """Make the Hadamard designs for a state, as a stack of noise trees."""
        return self.noise(state, hadamard_designs(size(self.backend, state) * self.rank, seed))

    def one_design(self, state: Any, seed: int) -> Any:
        """Make one noise tree: a row of the designs, picked by the seed."""
        rows = hadamard_designs(size(self.backend, state) * self.rank, seed)
        pick = (7 * seed + 1) % len(rows)
        return self.backend.map(lambda leaf: leaf[0], self.noise(state, rows[pick : pick + 1]))

    def after(self, reading: Reading, number: int) -> Any:
        """Pick the memory that one of the designs leads to."""
        count = self.backend.named_leaves(reading.memory)[0][1].shape[0]
        return self.backend.map(lambda leaf: leaf[number % count], reading.memory)

    def _over_designs(self, params: Any, memory: Any, state: Any, item: Any, noise: Any) -> Reading:
        backend = self.backend

        def one(signs: Any) -> Any:
            after, next_state, estimate = self.estimator.step(
                self.dynamics, params, memory, state, item, signs
            )
            return after, next_state, estimate.gradient

        after, states, gradients = backend.vmap(one)(noise)
        rows, cotangents = flat_pairs(backend, after, self.rank)
        outer = mix(backend, rows.T / rows.shape[0], cotangents)
        absolute = backend.map(abs, cotangents)
        weight = backend.norm(mix(backend, abs(rows).T / rows.shape[0], absolute))
        return Reading(outer, weight, gradients, after, backend.map(lambda leaf: leaf[0], states))

    def _truth(self, params: Any, memory: Any, state: Any, item: Any) -> Truth:
        backend = self.backend
        _, pullback = self.dynamics.vjp(params, state, item)
        direct, sensitivity = pullback(None, 1.0)
        immediate, jacobian = backend.vmap(lambda row: pullback(row, None))(backend.basis(state))
        tangents, cotangents = self.pairs(memory)
        rows, matrix = coordinates(backend, tangents), coordinates(backend, jacobian)
        influence = mix(backend, rows.T / rows.shape[0], cotangents)
        carried = mix(backend, matrix, influence)
        row = coordinates(backend, backend.map(lambda leaf: leaf[None], sensitivity))[0]
        pushed = backend.norm((rows @ matrix.T) / rows.shape[0] ** 0.5)
        size_of_pairs = pushed * backend.norm(cotangents) / rows.shape[0] ** 0.5
        return Truth(
            outer=backend.combine((1.0, immediate), (1.0, carried)),
            scale=backend.norm(immediate) + size_of_pairs,
            gradient=backend.combine((1.0, direct), (1.0, mix(backend, row, influence))),
        )


def apparatus(dynamics: Dynamics[Any, Any, Any], estimator: Estimator) -> Apparatus:
    """Make the apparatus for dynamics and an estimator, once; both are hashable."""
    key: Any = (dynamics, estimator)
    return _apparatus(*key)


_apparatus = lru_cache(maxsize=256)(Apparatus)
