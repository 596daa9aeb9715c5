"""Estimators that differ from Algorithm 1 and are unbiased all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro_conformance.mutants.right_joint import RIGHT_JOINT
from uoro_conformance.mutants.variants import (
    Scales,
    Step,
    Variant,
    balanced,
    first_sign,
    in_turn,
    norms,
    rhos,
    times,
)

from uoro.estimator import Estimate, Guarantee, Sampler
from uoro.estimators import UORO


def _ones(now: Step, pushed: Any, pulled: Any) -> Scales:
    return Scales(1.0, 1.0, 1.0, 1.0)


def _constants(now: Step, pushed: Any, pulled: Any) -> Scales:
    return Scales(0.5, 2.0, 2.0, 0.5)


def _inverted(now: Step, pushed: Any, pulled: Any) -> Scales:
    a, b, c, d = balanced(now, pushed, pulled)
    return Scales(c, d, a, b)


def _epsilon_elsewhere(now: Step, pushed: Any, pulled: Any) -> Scales:
    cotangent, tangent, fresh, signs = norms(now, pushed, pulled)
    rho0 = ((cotangent + 1e-5) / (tangent + 1e-5)) ** 0.5
    rho1 = ((fresh + 1e-5) / (signs + 1e-5)) ** 0.5
    return Scales(rho0, rho1, 1.0 / rho0, 1.0 / rho1)


def _even(now: Step, pushed: Any, pulled: Any) -> Scales:
    rho0, rho1 = rhos(now, pushed, pulled)
    even = 1.0 + 0.3 * first_sign(now) ** 2
    return Scales(rho0, rho1 * even, 1.0 / rho0, 1.0 / (rho1 * even))


def _swapped(now: Step, pushed: Any, pulled: Any) -> Scales:
    rho0, rho1 = rhos(now, pushed, pulled)
    return Scales(rho1, rho0, 1.0 / rho1, 1.0 / rho0)


def _undone(now: Step) -> Any:
    return now.pullback(times(now, lambda signs: 1.0 / in_turn(signs)), None)[0]


def _minus(now: Step, old: Any, new: Any) -> Any:
    return tuple(now.backend.combine((-1.0, part)) for part in new)


@dataclass(frozen=True)
class SharedSigns:
    """Two pairs that are given one draw of signs, or one and its negative.

    Each is unbiased, and so is their mean, however they depend on each other.

    Args:
        name: The difference, in words.
        second: Factor of the signs for the second pair: 1 or -1.
    """

    name: str
    second: float
    rank: int = 2
    draws: int = 1

    @property
    def guarantee(self) -> Guarantee:
        """Declare the estimator unbiased."""
        return "unbiased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Any:
        """Build two zero pairs."""
        return UORO(rank=2).init(dynamics, params, state)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw ν once."""
        return sampler(state, "signs")

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Compute a step of rank two."""
        xp = dynamics.backend.xp
        both = dynamics.backend.map(lambda leaf: xp.stack([leaf, self.second * leaf]), signs)
        return UORO(rank=2).step(dynamics, params, carry, state, inputs, both)


RIGHT: tuple[Any, ...] = (
    Variant("Algorithm 1, piece by piece"),
    Variant("ρ = 1", scales=_ones),
    Variant("ρ constant", scales=_constants),
    Variant("ρ inverted on both sides", scales=_inverted),
    Variant("ρ0 and ρ1 swapped", scales=_swapped),
    Variant("ε as in the authors' code", scales=_epsilon_elsewhere),
    Variant("ρ even in ν", scales=_even),
    Variant("the pair's sign flipped", keep=_minus),
    Variant("ν scaled, and scaled back", fresh=lambda now: times(now, in_turn), pull=_undone),
    Variant("Gaussian ν", distribution="gaussian"),
    Variant("spherical ν", distribution="spherical"),
    SharedSigns("rank 2 with shared ν", 1.0),
    SharedSigns("rank 2, antithetic", -1.0),
    *RIGHT_JOINT,
)
"""In float64 and in float32, whose rounding must not be taken for a bias either."""
