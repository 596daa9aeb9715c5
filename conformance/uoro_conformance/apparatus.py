"""One step of an estimator over a set of sign designs, and what exact RTRL makes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from uoro import algebra
from uoro.algebra import (
    as_precision,
    coordinates,
    differentiable,
    entry,
    mix,
    repeat,
    size,
    working_precision,
)
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro_conformance.designs import (
    as_noise,
    draws_of,
    flat_pairs,
    hadamard_designs,
    is_joint,
    nested_designs,
    random_designs,
    unstack,
)
from uoro_conformance.programs import kept

FEW = 6
"""How many random rows of signs, before their negatives, stand for a balanced design."""


class Measurement(NamedTuple):
    """One step over all designs against exact RTRL, both seen by the probes u.

    The scalars are Frobenius norms.

    Attributes:
        error: Norm of ``mean <u, s̃'> θ̃'`` minus the exact one.
        exact: Norm of ``<u, J s̃> θ̃ + uᵀ M K``, with M the mean of ``ν νᵀ`` over the designs.
        weight: Norm of the mean of absolute terms: what rounding is relative to.
        scale: ``‖uᵀ M K‖ + ‖uᵀ J s̃‖ ‖θ̃‖``, pairs averaged: what noise is relative to.
        gradient_error: Norm of all gradients minus ``(∂ℓ/∂s · s̃) θ̃ + ∂ℓ/∂θ``.
        gradient: Norm of the exact gradients, over all designs together.
        gradient_terms: Norm of ``‖∂ℓ/∂s‖ ‖s̃‖ ‖θ̃‖``, over all designs together.
        outcome_error: Relative error of the next states and losses that are passed on.
        carry: The carry that each design leads to.
        next_state: The next state, from the model itself.
    """

    error: Any
    exact: Any
    weight: Any
    scale: Any
    gradient_error: Any
    gradient: Any
    gradient_terms: Any
    outcome_error: Any
    carry: Any
    next_state: Any


class Apparatus:
    """The computations of the exact checks, compiled once for dynamics and an estimator.

    Args:
        dynamics: The model.
        estimator: Its carry has ``tangent`` and ``cotangent``; with rank k they are stacks,
            of which the influence is the mean, or if it is ``joint`` the sum. It then draws trees
            of signs: of all but the last its projections are made, ``E[Σ ν νᵀ] = I``; the last is
            for the reduction.
        batched: Whether to map over the designs with the backend's `vmap`. Otherwise Python
            loops, for a model that cannot be mapped.
    """

    def __init__(
        self, dynamics: Dynamics[Any, Any, Any], estimator: Estimator, batched: bool
    ) -> None:
        self.dynamics, self.estimator = dynamics, estimator
        self.backend: Backend = dynamics.backend
        self.rank: int = getattr(estimator, "rank", 1)
        self.joint = is_joint(estimator)
        self._each = self.backend.vmap if batched else partial(one_by_one, self.backend)
        compiled = self.backend.compile if batched else lambda function: function
        self.measure = compiled(self._measure)
        self.step = compiled_step(dynamics, estimator)

    def designs(self, state: Any, seed: int) -> Any:
        """Build the Hadamard designs for a state, as a stack of sign trees."""
        draws, n = draws_of(self.estimator), size(self.backend, state)
        rows = nested_designs(n, draws, seed) if self.joint else hadamard_designs(n * draws, seed)
        return as_noise(self.backend, state, rows, draws)

    def some_designs(self, state: Any, seed: int) -> Any:
        """Build a few random designs, for a state too large for balanced ones."""
        if self.joint:
            raise SettingError(
                f"check(projections=...): expected None for {self.estimator}, of which only the "
                "whole influence can be checked. Leave projections out, and take a smaller model."
            )
        draws = draws_of(self.estimator)
        rows = random_designs(size(self.backend, state) * draws, FEW, seed)
        return as_noise(self.backend, state, rows, draws)

    def one_design(self, state: Any, seed: int) -> Any:
        """Build one sign tree: one of the designs, selected by the seed."""
        stack = self.designs(state, seed)
        return entry(self.backend, stack, (7 * seed + 1) % self._count(stack))

    def after(self, measurement: Measurement, number: int) -> Any:
        """Return the carry that one of the designs leads to."""
        stack = measurement.carry
        return entry(self.backend, stack, number % self._count(stack))

    def _count(self, stack: Any) -> int:
        return int(self.backend.named_leaves(stack)[0][1].shape[0])

    def _flat(self, carry: Any, state: Any, *, stacked: bool) -> tuple[Any, Any]:
        """Return tangents as a matrix, one row per pair, and cotangents as a stack."""
        precision = working_precision(self.backend, state)
        pair: tuple[Any, Any] = as_precision(
            self.backend, (carry.tangent, carry.cotangent), precision
        )
        if not stacked:
            pair = repeat(self.backend, pair, 1)
        return flat_pairs(self.backend, pair[0], pair[1], self.rank)

    def _measure(
        self, params: Any, carry: Any, state: Any, item: Any, drawn: Any, probes: Any
    ) -> Measurement:
        backend, norm = self.backend, partial(algebra.norm, self.backend)

        def one(signs: Any) -> Any:
            after, next_state, estimate = self.estimator.step(
                self.dynamics, params, carry, state, item, signs
            )
            return after, next_state, estimate.loss, estimate.gradient

        after, states, losses, gradients = self._each(one)(drawn)
        looks = coordinates(backend, probes)
        rows, cotangents = self._flat(after, state, stacked=True)
        averaged = rows.shape[0] // self.rank if self.joint else rows.shape[0]
        outer = mix(backend, looks @ rows.T / averaged, cotangents)
        sizes = backend.map(abs, cotangents)
        weight = norm(mix(backend, abs(looks) @ abs(rows).T / averaged, sizes))

        outcome, pullback = self.dynamics.vjp(params, state, item)
        immediate, state_gradient = pullback(None, 1.0)
        if self.joint:
            draws = backend.map(lambda leaf: leaf[:, 0], drawn)
        else:
            draws = drawn if draws_of(self.estimator) == 1 else unstack(backend, drawn)
        signs = coordinates(backend, draws)
        images = mix(backend, looks @ signs.T / signs.shape[0], draws)

        def pull(look: Any, image: Any) -> tuple[Any, Any]:
            return pullback(image, None)[0], pullback(look, None)[1]

        fresh, back = self._each(pull)(probes, images)
        tangents, carried = self._flat(carry, state, stacked=False)
        rank = 1 if self.joint else tangents.shape[0]
        seen = coordinates(backend, back) @ tangents.T
        exact = backend.combine((1.0, fresh), (1.0, mix(backend, seen / rank, carried)))

        row = coordinates(backend, repeat(backend, state_gradient, 1))[0]
        through = mix(backend, row @ tangents.T / rank, carried)
        count = self._count(drawn)
        expected = repeat(backend, backend.combine((1.0, immediate), (1.0, through)), count)
        passed_on = repeat(
            backend, [*differentiable(backend, outcome.next_state), outcome.loss], count
        )
        changed = backend.combine(
            (1.0, [*differentiable(backend, states), losses]), (-1.0, passed_on)
        )
        return Measurement(
            error=norm(backend.combine((1.0, outer), (-1.0, exact))),
            exact=norm(exact),
            weight=weight,
            scale=norm(fresh) + norm(seen) * norm(carried) / rank,
            gradient_error=norm(backend.combine((1.0, gradients), (-1.0, expected))),
            gradient=norm(expected),
            gradient_terms=norm(row) * norm(tangents) * norm(carried) * count**0.5 / rank,
            outcome_error=norm(changed) / (norm(passed_on) + 1e-30),
            carry=after,
            next_state=outcome.next_state,
        )


def one_by_one(backend: Backend, function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function over the leading axis of its arguments in a Python loop."""

    def mapped(*stacks: Any) -> Any:
        count = int(backend.named_leaves(stacks[0])[0][1].shape[0])
        results = [function(*(entry(backend, stack, i) for stack in stacks)) for i in range(count)]
        return backend.map(lambda *leaves: backend.xp.stack(leaves), *results)

    return mapped


def apparatus(
    dynamics: Dynamics[Any, Any, Any], estimator: Estimator, *, batched: bool = True
) -> Apparatus:
    """Return the apparatus for dynamics and an estimator, built once; both are hashable."""
    key: Any = (dynamics, estimator, batched)
    built: Apparatus = _apparatus(*key)
    return built


def compiled_step(dynamics: Dynamics[Any, Any, Any], estimator: Estimator) -> Callable[..., Any]:
    """Compile an estimator's step ``(params, carry, state, inputs, signs)``, once."""
    key: Any = (dynamics, estimator)
    step: Callable[..., Any] = _compiled_step(*key)
    return step


_apparatus = kept(64)(Apparatus)


@kept(256)
def _compiled_step(dynamics: Any, estimator: Any) -> Any:
    return dynamics.backend.compile(partial(estimator.step, dynamics))
