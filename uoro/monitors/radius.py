"""Spectral radius of one step of a model: how fast the hidden state forgets."""

from __future__ import annotations

from typing import Any, NamedTuple

from uoro.algebra import norm, working_precision
from uoro.arguments import require_count
from uoro.backend import Backend
from uoro.dynamics import Dynamics


class SpectralRadius(NamedTuple):
    """Result of a power iteration.

    Attributes:
        radius: Estimate, a scalar; infinite or NaN if a derivative is not finite.
        tangent: Tangent of length 1, shaped like the state; a good start at a point nearby.
    """

    radius: Any
    tangent: Any


def spectral_radius(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    tangent: Any = None,
    iterations: int = 64,
) -> SpectralRadius:
    """Estimate the largest modulus of an eigenvalue of ``J = ∂F/∂s``, by power iteration.

    The iteration is ``v ← J v / ‖J v‖``; the estimate is a geometric mean of the growths ``‖J v‖``
    over the second half of the iterations. Under a rotation, growths oscillate and average out; the
    weights of the mean therefore rise and fall like ``i (m - i)`` instead of starting and ending
    abruptly.

    Measured accuracy with 64 iterations: random matrices of 16 and 64 units within 0.3 % in the
    median and 2 % at worst; symmetric ones, with close moduli of both signs, within 6 %; a complex
    pair within 0.1 % if it turns by a radian a step and within 3 % if by a tenth, in skewed
    coordinates of condition 10; a defective eigenvalue of order 4 within 7 %. With 256 iterations:
    0.5 %, and 1.6 % for the defective eigenvalue. A matrix far from normal has a transient, during
    which the estimate is too high; the transient ends once the largest eigenvalue has outgrown the
    others by as much. A nilpotent matrix gives 0 if it dies within the iterations, and otherwise
    the growth of its chain. Where J changes slowly, a start from the tangent of the last call
    makes up for few iterations.

    For ``unroll(dynamics, T)`` the result is the radius of T steps together.

    Cost: one Jacobian-vector product (JVP) per iteration; the memory of a state. The function
    compiles, with any tangent.

    Args:
        dynamics: Model.
        params: θ.
        state: Hidden state at which J is taken.
        inputs: Item at which J is taken.
        tangent: Start of the iteration, shaped like a tangent of the state, not zero; default a
            fixed draw.
        iterations: Number of JVPs.

    Raises:
        SettingError: If the number of iterations is not a positive integer.

    References:
        Golub & Van Loan, "Matrix Computations", section 7.3.
    """
    require_count(f"spectral_radius(iterations={iterations!r})", "number of iterations", iterations)
    backend = dynamics.backend
    xp = backend.xp
    # Replaces a tangent that dies or overflows: a random tangent leaves the kernel, if any does.
    fresh = backend.random(backend.key(0), state, "gaussian")
    fresh = backend.combine((1.0 / norm(backend, fresh), fresh))
    carried = fresh if tangent is None else _unit(backend, tangent, fresh)[0]

    def body(tangent: Any, weight: Any) -> tuple[Any, tuple[Any, Any]]:
        pushed, _ = dynamics.jvp(params, state, inputs, tangent)
        following, growth, usable = _unit(backend, pushed, fresh)
        log = xp.log(xp.where(usable, growth, xp.ones_like(growth)))
        # An infinite logarithm times no weight would be NaN.
        bad = xp.where(usable | (weight == 0), xp.zeros_like(growth), growth + 1)
        return following, (weight * log, bad)

    weights = backend.from_host(_weights(iterations), dtype=working_precision(backend, state))
    last, (logs, bad) = backend.scan(body, carried, xp.stack(weights))
    # `bad` is 0 where all went well, 1 for a growth of 0, and what is not finite for such.
    worst = bad.sum()
    mean = xp.exp(logs.sum())
    radius = xp.where(worst > 0, xp.zeros_like(mean), mean)
    return SpectralRadius(xp.where(abs(worst) < float("inf"), radius, worst), last)


def _unit(backend: Backend, vector: Any, otherwise: Any) -> tuple[Any, Any, Any]:
    """Scale a vector to length 1; replace it by another if it is zero or not finite.

    Returns:
        The vector, its former length, and whether it could be used.
    """
    xp = backend.xp
    length = backend.from_host(norm(backend, vector))  # PyTorch's may be Python's own number
    usable = (length > 0) & (length < float("inf"))
    scale = xp.where(usable, length, xp.ones_like(length))
    unit = backend.map(lambda leaf, other: xp.where(usable, leaf / scale, other), vector, otherwise)
    return unit, length, usable


def _weights(iterations: int) -> list[float]:
    """Return weights ``i (m - i)``, i from 1, of the growths of the second half, with sum 1."""
    averaged = -(-iterations // 2)
    rises = [i * (averaged + 1 - i) for i in range(1, averaged + 1)]
    return [0.0] * (iterations - averaged) + [rise / sum(rises) for rise in rises]
