"""The spectral radius of one step of a model: how fast its state forgets."""

from __future__ import annotations

from typing import Any, NamedTuple

from uoro.algebra import norm, working_precision
from uoro.arguments import require_count
from uoro.backend import Backend
from uoro.dynamics import Dynamics


class SpectralRadius(NamedTuple):
    """What power iteration found.

    Attributes:
        radius: The estimate; a scalar. Infinite or NaN where a derivative is not finite.
        tangent: Shaped like the state, of length 1: what to go on from at a point nearby.
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

    ``v ← J v / ‖J v‖``, again and again, and the estimate is a geometric mean of the growths
    ``‖J v‖`` over the last half of the iterations. Under a rotation growths go up and down without
    end, and average out: for that the weights of the mean rise and fall like ``i (m - i)`` rather
    than begin and end abruptly.

    How near it comes, measured: with 64 iterations random matrices of 16 and 64 units are met
    within 0.3 % in the median and 2 % at worst, symmetric ones, with moduli side by side of both
    signs, within 6 %; a complex pair within 0.1 % if it turns by a radian a step, and 3 % if by a
    tenth, in skewed coordinates of condition 10; a defective eigenvalue of order 4 within 7 %.
    With 256 iterations it is 0.5 %, and 1.6 % for the defective one. However far from normal a
    matrix is, its transient is over once the largest eigenvalue has outgrown the others by as much;
    before, the estimate is too high. A nilpotent matrix gives 0 if it dies within the iterations,
    and otherwise the growth of its chain. Starting from the tangent of the last call makes up for
    few iterations where J changes slowly.

    Of ``unroll(dynamics, T)`` it is the radius of T steps together.

    Cost: as many jvps as iterations; the memory of a state. It compiles, with any tangent.

    Args:
        dynamics: The model.
        params: θ.
        state: The state J is taken at.
        inputs: The item it is taken at.
        tangent: Where to start from, shaped like a tangent of the state; any but the zero vector. A
            fixed draw if not given.
        iterations: How many jvps to take.

    Raises:
        SettingError: If the iterations are not a positive integer.

    References:
        Golub & Van Loan, "Matrix Computations", section 7.3.
    """
    require_count(f"spectral_radius(iterations={iterations!r})", "number of iterations", iterations)
    backend = dynamics.backend
    xp = backend.xp
    # Taken up wherever a tangent dies or blows up: it leaves the kernel, if anything does.
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
    """Give a vector the length 1; one that is zero or not finite makes way for another.

    Returns:
        The vector, its length, and whether that could be used.
    """
    xp = backend.xp
    length = backend.from_host(norm(backend, vector))  # PyTorch's may be Python's own number
    usable = (length > 0) & (length < float("inf"))
    scale = xp.where(usable, length, xp.ones_like(length))
    unit = backend.map(lambda leaf, other: xp.where(usable, leaf / scale, other), vector, otherwise)
    return unit, length, usable


def _weights(iterations: int) -> list[float]:
    """Weigh the growths of the last half, ``i (m - i)`` for i from 1, to a sum of 1."""
    averaged = -(-iterations // 2)
    rises = [i * (averaged + 1 - i) for i in range(1, averaged + 1)]
    return [0.0] * (iterations - averaged) + [rise / sum(rises) for rise in rises]
