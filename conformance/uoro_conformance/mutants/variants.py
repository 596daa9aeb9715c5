"""Algorithm 1 in replaceable pieces: the base of the wrong and of the right variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from uoro.algebra import coordinates, entry, norm, shaped
from uoro.backend import Backend, Distribution
from uoro.dynamics import Dynamics, Moment
from uoro.estimator import Estimate, Guarantee, Sampler

EPSILON = 1e-7


class Pair(NamedTuple):
    """The carry of a variant: the pair, the params of the last step, and a step counter."""

    tangent: Any
    cotangent: Any
    params: Any
    clock: Any


class Scales(NamedTuple):
    """The four factors of ``s̃ = a s̃' + b ν`` and ``θ̃ = c θ̃ + d νᵀK``."""

    a: Any
    b: Any
    c: Any
    d: Any


class Step(NamedTuple):
    """What is known within one step.

    Attributes:
        dynamics: The model.
        at: The point at which the step is taken: params, state and item.
        carry: The pair that the step arrived with.
        signs: ν, shaped like the state.
        next_state: The next hidden state.
        pullback: The transposed derivative of the model at the point.
    """

    dynamics: Dynamics[Any, Any, Any]
    at: Moment
    carry: Pair
    signs: Any
    next_state: Any
    pullback: Any

    @property
    def backend(self) -> Backend:
        """Backend of the dynamics."""
        return self.dynamics.backend


def push_by_jvp(now: Step) -> Any:
    """Push the tangent forward."""
    return now.dynamics.jvp(*now.at, now.carry.tangent)[0]


def pull_by_vjp(now: Step) -> Any:
    """Pull the signs back."""
    return now.pullback(now.signs, None)[0]


def drawn(now: Step) -> Any:
    """Return ν as it was drawn."""
    return now.signs


def times(now: Step, factors: Callable[[Any], Any]) -> Any:
    """Multiply ν, coordinate by coordinate, by a function of the vector of its coordinates."""
    backend = now.backend
    row = coordinates(backend, backend.map(lambda leaf: leaf[None], now.signs))
    return entry(backend, shaped(backend, row * factors(row[0]), now.signs), 0)


def in_turn(signs: Any) -> Any:
    """Return the factors 1, 2 and 3 in turn, independent of the signs."""
    return 1.0 + (signs * 0.0 + 1.0).cumsum(0) % 3


def norms(now: Step, pushed: Any, pulled: Any) -> tuple[Any, Any, Any, Any]:
    """Return ‖θ̃‖, ‖s̃'‖, ‖νᵀK‖ and ‖ν‖."""
    trees = now.carry.cotangent, pushed, pulled, now.signs
    cotangent, tangent, fresh, signs = (norm(now.backend, tree) for tree in trees)
    return cotangent, tangent, fresh, signs


def rhos(now: Step, pushed: Any, pulled: Any) -> tuple[Any, Any]:
    """Return ρ0 and ρ1 of the paper."""
    cotangent, tangent, fresh, signs = norms(now, pushed, pulled)
    return (
        (cotangent / (tangent + EPSILON)) ** 0.5 + EPSILON,
        (fresh / (signs + EPSILON)) ** 0.5 + EPSILON,
    )


def balanced(now: Step, pushed: Any, pulled: Any) -> Scales:
    """Scale as Algorithm 1 does."""
    rho0, rho1 = rhos(now, pushed, pulled)
    return Scales(rho0, rho1, 1.0 / rho0, 1.0 / rho1)


def unchanged(now: Step, old: Any, new: Any) -> Any:
    """Carry the joined pair on."""
    return new


def old_pair(now: Step, new: Any, state_gradient: Any) -> Any:
    """Return the part of the gradient through the state, from the pair it arrived with."""
    loss_tangent = now.backend.inner(state_gradient, now.carry.tangent)
    return now.backend.combine((loss_tangent, now.carry.cotangent))


def first_sign(now: Step) -> Any:
    """Return one coordinate of ν."""
    lifted = now.backend.map(lambda leaf: leaf[None], now.signs)
    return coordinates(now.backend, lifted)[0, 0]


@dataclass(frozen=True)
class Variant:
    """UORO of rank one with replaceable pieces.

    Args:
        name: The difference, in words.
        push: Function that returns ``s̃'``.
        fresh: Function that returns ν on the side of the state.
        pull: Function that returns ``νᵀK``.
        scales: Function that returns the four factors.
        keep: From the old and the joined tangent and cotangent to what is carried on.
        through: The part of the gradient that comes through the state.
        immediate: Whether the gradient includes ∂ℓ/∂θ within the step.
        distribution: Distribution of ν.
    """

    name: str
    push: Callable[[Step], Any] = push_by_jvp
    fresh: Callable[[Step], Any] = drawn
    pull: Callable[[Step], Any] = pull_by_vjp
    scales: Callable[[Step, Any, Any], Scales] = balanced
    keep: Callable[[Step, Any, Any], Any] = unchanged
    through: Callable[[Step, Any, Any], Any] = old_pair
    immediate: bool = True
    distribution: Distribution = "signs"

    @property
    def guarantee(self) -> Guarantee:
        """Declare the estimator unbiased."""
        return "unbiased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Pair:
        """Build the zero pair."""
        zeros = dynamics.backend.zeros
        clock = dynamics.backend.from_host(0)
        return Pair(zeros(state), zeros(params), params, clock)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw ν."""
        return sampler(state, self.distribution)

    def step(
        self, dynamics: Any, params: Any, carry: Pair, state: Any, inputs: Any, signs: Any
    ) -> tuple[Pair, Any, Estimate]:
        """Compute one step, piece by piece."""
        backend = dynamics.backend
        at = Moment(params, state, inputs)
        outcome, pullback = dynamics.vjp(*at)
        now = Step(dynamics, at, carry, signs, outcome.next_state, pullback)
        immediate, state_gradient = pullback(None, 1.0)
        pushed, pulled = self.push(now), self.pull(now)
        a, b, c, d = self.scales(now, pushed, pulled)
        joined = (
            backend.combine((a, pushed), (b, self.fresh(now))),
            backend.combine((c, carry.cotangent), (d, pulled)),
        )
        tangent, cotangent = self.keep(now, (carry.tangent, carry.cotangent), joined)
        through = self.through(now, joined, state_gradient)
        gradient = backend.combine((1.0 if self.immediate else 0.0, immediate), (1.0, through))
        after = Pair(tangent, cotangent, params, carry.clock + 1)
        return after, outcome.next_state, Estimate(outcome.loss, gradient)


class Mutant(NamedTuple):
    """A wrong estimator and the check that must refuse it.

    Attributes:
        estimator: It has a ``name``.
        killed_by: One of `KILLERS`: ``"chain"``, ``"gradient"``, ``"variance"`` and so on.
        span: Number of steps that are unrolled into one.
    """

    estimator: Any
    killed_by: str
    span: int = 1
