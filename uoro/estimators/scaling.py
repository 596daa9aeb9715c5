"""Scaling of random signs: larger where the params move the hidden state more.

In the fresh part ``ν ⊗ νᵀ ∂F/∂θ`` of an estimate, all coordinates of the tangent have one size,
however large the rows of ∂F/∂θ are. For any positive factors q that do not depend on ν,
``q ν ⊗ (ν/q)ᵀ ∂F/∂θ`` has the same mean; the mean of ``‖q ν‖² ‖(ν/q)ᵀ ∂F/∂θ‖²`` is least for
``q_i²`` proportional to the norm of row i.

References:
    Cooijmans & Martens, "On the Variance of Unbiased Online Recurrent Optimization", 2019,
    arXiv:1902.02405: any invertible matrix in place of q, and which is best for a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from uoro.algebra import as_precision, differentiable, shift, working_precision
from uoro.arguments import mismatch, require_like
from uoro.backend import Backend
from uoro.derivatives.differences import roundoff_of
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.errors import SettingError, spelled

Named: TypeAlias = Literal["rows"]
Scaling: TypeAlias = Named | Callable[[Any, Any, Any], Any]
"""The factors q: ``"rows"``, or a function ``(params, state, inputs) -> q``."""

FREQUENCIES = (2.0**0.5, 3.0**0.5, 5.0**0.5, 7.0**0.5)
"""One for each direction of the params along which the norms of rows are measured."""

FLAT = 1e-3
"""Smallest norm of a row, in units of the root mean square of all; smaller ones count as this."""


def require_scaling(call: str, scaling: object) -> None:
    """Check the setting ``scaling`` of an estimator.

    Raises:
        SettingError: If ``scaling`` is neither ``None`` nor a known name nor a function.
    """
    named = isinstance(scaling, str) and scaling in get_args(Named)
    if not (scaling is None or named or callable(scaling)):
        expected = (
            "None, 'rows', or a function (params, state, inputs) -> positive numbers shaped like "
            "the state"
        )
        raise SettingError(mismatch(call, "scaling", expected, spelled(scaling)))


def scaled(
    scaling: Scaling | None,
    dynamics: Dynamics[Params, State, Inputs],
    params: Params,
    state: State,
    inputs: Inputs,
    signs: State,
) -> tuple[State, State]:
    """Return ``q ν`` and ``ν / q``, of one ν or of a stack of them.

    Raises:
        StructureError: If the factors of a user's function are not shaped like the state.
    """
    if scaling is None:
        return signs, signs
    backend = dynamics.backend
    if scaling == "rows":
        factors = row_factors(dynamics, params, state, inputs)
    else:
        given = scaling(params, state, inputs)
        require_like(
            backend,
            given,
            state,
            call="scaling=function: function(params, state, inputs)",
            hint="Return a positive number for each coordinate of the state.",
        )
        factors = differentiable(backend, given)

    def times(power: float) -> State:
        rest = iter(factors)
        product: State = backend.map(lambda leaf: leaf * next(rest) ** power, signs)
        return product

    return times(1.0), times(-1.0)


def row_factors(
    dynamics: Dynamics[Params, State, Inputs], params: Params, state: State, inputs: Inputs
) -> list[Any]:
    """Return the roots of the norms of the rows of ∂F/∂θ, relative to each other, leaf by leaf.

    Estimates the norms from finite differences: steps along a few directions of the params, and how
    far each coordinate of the next state moves. With random signs for a direction, the square of
    the difference is the squared norm on average. The directions are the same at every step, so
    that the factors do not depend on ν. For a matrix a direction is a product of signs of rows and
    of signs of columns; rows with the same inputs are underestimated by the same factor.

    Accuracy matters little, so that finite steps suffice. Cost: five calls of `forward`.
    """
    backend = dynamics.backend
    precision = working_precision(backend, (params, state))
    length = roundoff_of(backend, params, state) ** 0.25

    def reached(moved: Params) -> list[Any]:
        following = differentiable(backend, dynamics.forward(moved, state, inputs).next_state)
        reals: list[Any] = as_precision(backend, following, precision)
        return reals

    start = reached(params)
    squares: list[Any] = [0.0] * len(start)
    for direction in _directions(backend, params, precision):
        end = reached(shift(backend, params, length, direction))
        squares = [
            square + abs(one - other) ** 2
            for square, one, other in zip(squares, end, start, strict=True)
        ]
    count = sum(math.prod(square.shape) for square in squares)
    total = sum((square.sum() for square in squares[1:]), squares[0].sum())
    share = count / backend.xp.where(total > 0, total, 1.0)
    return [
        backend.xp.where(square * share > FLAT**2, square * share, FLAT**2) ** 0.25
        for square in squares
    ]


def _directions(backend: Backend, params: Any, precision: str) -> list[list[Any]]:
    """Build directions of the params: for each leaf, a product of signs along each axis.

    The signs are those of cosines of incommensurable frequencies: the same on all backends, and
    constants for a compiler.
    """
    xp, shapes = backend.xp, [tuple(leaf.shape) for leaf in differentiable(backend, params)]
    place = backend.from_host(xp.arange(sum(map(sum, shapes)) + len(shapes)), dtype=precision)

    def direction(frequency: float) -> list[Any]:
        signs, start, leaves = xp.where(xp.cos(frequency * place) < 0, -1.0, 1.0), 0, []
        for shape in shapes:
            product: Any = signs[start]
            start += 1
            for axis, size in enumerate(shape):
                along = signs[start : start + size]
                product = product * along.reshape((size,) + (1,) * (len(shape) - axis - 1))
                start += size
            leaves.append(product)
        return leaves

    return [direction(frequency) for frequency in FREQUENCIES]
