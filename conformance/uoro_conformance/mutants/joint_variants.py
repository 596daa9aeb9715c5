"""Joint pairs in replaceable pieces: the base of the wrong and of the right variants.

Unlike the library, a variant builds the whole sum of outer products and its singular values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from uoro.algebra import coordinates, entry, mix, repeat, shaped
from uoro.backend import Backend
from uoro.dynamics import Dynamics, Moment
from uoro.estimator import Estimate, Guarantee, Sampler
from uoro.estimators.projections import projections
from uoro.estimators.reduction import unit_rows, water_filling


class JointPairs(NamedTuple):
    """The carry: pairs, added variance, and params and signs of the last step, with a counter."""

    tangent: Any
    cotangent: Any
    added: Any
    params: Any
    signs: Any
    clock: Any


class JointStep(NamedTuple):
    """What is known within one step, before the reduction.

    Attributes:
        dynamics: The model.
        at: The point at which the step is taken: params, state and item.
        carry: The pairs that the step arrived with.
        next_state: The next hidden state.
        pullback: The transposed derivative of the model at the point.
        fresh: The projections ν, a stack of k.
        signs: σ, a vector with one sign per state coordinate.
        first_signs: The signs that the projections are made of, a vector.
        rank: k.
    """

    dynamics: Dynamics[Any, Any, Any]
    at: Moment
    carry: JointPairs
    next_state: Any
    pullback: Any
    fresh: Any
    signs: Any
    first_signs: Any
    rank: int

    @property
    def backend(self) -> Backend:
        """Backend of the dynamics."""
        return self.dynamics.backend


class Parts(NamedTuple):
    """The sum ``Σ_i d_i u_i ⊗ v_i`` that is to be reduced: d, and u and v as rows."""

    values: Any
    left: Any
    right: Any


Rows = tuple[Any, Any]
"""What ``√d_i u_i`` and ``√d_i v_i`` are multiplied by to make each pair: two matrices (m, k)."""


def orthogonal_projections(backend: Backend, drawn: Any, rank: int) -> Any:
    """Build ν of the first draw, as the library does."""
    return projections(backend, entry(backend, drawn, 0), rank)


def push_all(now: JointStep) -> Any:
    """Push the carried tangents forward."""
    push = now.backend.vmap(lambda one: now.dynamics.jvp(*now.at, one)[0])
    return push(now.carry.tangent)


def pull_all(now: JointStep) -> Any:
    """Pull the projections back."""
    return now.backend.vmap(lambda nu: now.pullback(nu, None)[0])(now.fresh)


def once_each(now: JointStep, pushed: Any, pulled: Any) -> tuple[Any, Any]:
    """Concatenate carried and fresh pairs into two matrices with one row per pair."""
    backend, concatenate = now.backend, now.backend.xp.concatenate
    tangents = concatenate([coordinates(backend, pushed), coordinates(backend, now.fresh)], 0)
    cotangents = coordinates(backend, now.carry.cotangent), coordinates(backend, pulled)
    return tangents, concatenate(list(cotangents), 0)


def optimal(now: JointStep, parts: Parts) -> Any:
    """Build unit rows for the p of least variance, as the library does."""
    xp = now.backend.xp
    return unit_rows(xp, water_filling(xp, parts.values, now.rank), now.rank)


def same_signs(now: JointStep, parts: Parts, rows: Any) -> Rows:
    """Multiply each row by its sign, on both sides alike."""
    signed = now.signs[: len(parts.values)][:, None] * rows
    return signed, signed


def variance_of_rows(now: JointStep, parts: Parts, rows: Any) -> Any:
    """Return ``Σ d_i d_j <l_i, l_j>²`` over i ≠ j, which is the variance for any unit rows."""
    inner, d = rows @ rows.T, parts.values
    return d @ (inner**2) @ d - ((d * now.backend.xp.diagonal(inner)) ** 2).sum()


def singular(now: JointStep, tangents: Any, cotangents: Any) -> Parts:
    """Compute the singular values and vectors of the sum."""
    whole = tangents.T @ cotangents
    left, values, right = now.backend.xp.linalg.svd(whole, full_matrices=False)
    return Parts(values, left.T, right)


def sum_of_old(now: JointStep, new: Any, rates: Any) -> Any:
    """Return the part of the gradient through the state: the pairs it arrived with, added up."""
    return mix(now.backend, rates, now.carry.cotangent)


@dataclass(frozen=True)
class JointVariant:
    """Joint pairs of rank two with replaceable pieces.

    Args:
        name: The difference, in words.
        project: Makes the k projections of the noise.
        push: Function that returns the JVPs of the tangents.
        pull: Function that returns the VJPs of the projections.
        gather: Lines all 2k pairs up.
        decompose: Makes the directions of their sum, m of them.
        rows: Function that returns the unit rows, a matrix (m, k).
        sign: From these to what each side is multiplied by.
        report: Function that returns the reported variance.
        through: From the new pairs and ``∂ℓ/∂s · s̃`` of the old ones to the part of the gradient
            through the state.
        draws: Number of sign trees per step.
    """

    name: str
    project: Callable[[Backend, Any, int], Any] = orthogonal_projections
    push: Callable[[JointStep], Any] = push_all
    pull: Callable[[JointStep], Any] = pull_all
    gather: Callable[[JointStep, Any, Any], tuple[Any, Any]] = once_each
    decompose: Callable[[JointStep, Any, Any], Parts] = singular
    rows: Callable[[JointStep, Parts], Any] = optimal
    sign: Callable[[JointStep, Parts, Any], Rows] = same_signs
    report: Callable[[JointStep, Parts, Any], Any] = variance_of_rows
    through: Callable[[JointStep, Any, Any], Any] = sum_of_old
    draws: int = 2
    rank: int = 2
    joint: bool = True

    @property
    def guarantee(self) -> Guarantee:
        """Declare the estimator unbiased."""
        return "unbiased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> JointPairs:
        """Build zero pairs."""
        backend = dynamics.backend
        tangent, cotangent = (backend.zeros(tree, batch=(self.rank,)) for tree in (state, params))
        signs = coordinates(backend, tangent)[0]
        return JointPairs(tangent, cotangent, signs.sum(), params, signs, backend.from_host(0))

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw signs for the projections, and for the reduction."""
        return sampler(state, "signs", (self.draws,))

    def step(
        self, dynamics: Any, params: Any, carry: JointPairs, state: Any, inputs: Any, drawn: Any
    ) -> tuple[JointPairs, Any, Estimate]:
        """Compute one step, piece by piece."""
        backend = dynamics.backend
        at = Moment(params, state, inputs)
        outcome, pullback = dynamics.vjp(*at)
        signs = coordinates(backend, drawn)
        now = JointStep(
            dynamics=dynamics,
            at=at,
            carry=carry,
            next_state=outcome.next_state,
            pullback=pullback,
            fresh=self.project(backend, drawn, self.rank),
            signs=signs[-1],
            first_signs=signs[0],
            rank=self.rank,
        )
        tangents, cotangents = self.gather(now, self.push(now), self.pull(now))
        parts = self.decompose(now, tangents, cotangents)
        rows = self.rows(now, parts)
        root = parts.values[:, None] ** 0.5
        of_left, of_right = self.sign(now, parts, rows)
        new = (
            shaped(backend, of_left.T @ (root * parts.left), entry(backend, now.fresh, 0)),
            shaped(backend, of_right.T @ (root * parts.right), params),
        )
        immediate, state_gradient = pullback(None, 1.0)
        row = coordinates(backend, repeat(backend, state_gradient, 1))[0]
        through = self.through(now, new, coordinates(backend, carry.tangent) @ row)
        after = JointPairs(*new, self.report(now, parts, rows), params, now.signs, carry.clock + 1)
        gradient = backend.combine((1.0, immediate), (1.0, through))
        return after, outcome.next_state, Estimate(outcome.loss, gradient)
