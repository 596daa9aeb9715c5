"""Estimators that differ from Algorithm 1 and are unbiased all the same."""

from __future__ import annotations

from typing import Any

from uoro_conformance.variants import (
    Moment,
    Scales,
    Variant,
    balanced,
    first_sign,
    norms,
    rhos,
)


def _ones(now: Moment, pushed: Any, pulled: Any) -> Scales:
    return Scales(1.0, 1.0, 1.0, 1.0)


def _constants(now: Moment, pushed: Any, pulled: Any) -> Scales:
    return Scales(0.5, 2.0, 2.0, 0.5)


def _inverted(now: Moment, pushed: Any, pulled: Any) -> Scales:
    a, b, c, d = balanced(now, pushed, pulled)
    return Scales(c, d, a, b)


def _epsilon_elsewhere(now: Moment, pushed: Any, pulled: Any) -> Scales:
    cotangent, tangent, fresh, signs = norms(now, pushed, pulled)
    rho0 = ((cotangent + 1e-5) / (tangent + 1e-5)) ** 0.5
    rho1 = ((fresh + 1e-5) / (signs + 1e-5)) ** 0.5
    return Scales(rho0, rho1, 1.0 / rho0, 1.0 / rho1)


def _even(now: Moment, pushed: Any, pulled: Any) -> Scales:
    rho0, rho1 = rhos(now, pushed, pulled)
    even = 1.0 + 0.3 * first_sign(now) ** 2
    return Scales(rho0, rho1 * even, 1.0 / rho0, 1.0 / (rho1 * even))


def _swapped(now: Moment, pushed: Any, pulled: Any) -> Scales:
    rho0, rho1 = rhos(now, pushed, pulled)
    return Scales(rho1, rho0, 1.0 / rho1, 1.0 / rho0)


def _minus(now: Moment, old: Any, new: Any) -> Any:
    return tuple(now.backend.combine((-1.0, part)) for part in new)


RIGHT: tuple[Variant, ...] = (
    Variant("Algorithm 1, piece by piece"),
    Variant("ρ = 1", scales=_ones),
    Variant("ρ constant", scales=_constants),
    Variant("ρ inverted on both sides", scales=_inverted),
    Variant("ρ0 and ρ1 swapped", scales=_swapped),
    Variant("ε as in the authors' code", scales=_epsilon_elsewhere),
    Variant("ρ even in ν", scales=_even),
    Variant("the pair's sign flipped", keep=_minus),
    Variant("Gaussian ν", law="gaussian"),
    Variant("spherical ν", law="spherical"),
)
