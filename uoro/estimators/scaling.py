"""Larger random signs where the params move the state more.

Coordinate i of the fresh part of an estimate, ``ν ⊗ νᵀ ∂F/∂θ``, is as large for all i on the side
of the state, however large row i of ∂F/∂θ is. For any positive numbers q that do not depend on ν,
``q ν ⊗ (ν/q)ᵀ ∂F/∂θ`` has the same mean, and ``‖q ν‖² ‖(ν/q)ᵀ ∂F/∂θ‖²`` is least, on average,
where ``q_i²`` goes with the norm of row i.

References:
    Cooijmans & Martens, "On the Variance of Unbiased Online Recurrent Optimization", 2019,
    arXiv:1902.02405: any invertible matrix in place of q, and which is best for a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from uoro.algebra import as_precision, differentiable, shift, working_precision
from uoro.arguments import require_like
from uoro.backend import Backend
from uoro.derivatives.differences import roundoff_of
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.errors import SettingError, spelled

Named: TypeAlias = Literal["rows"]
Scaling: TypeAlias = Named | Callable[[Any, Any, Any], Any]
"""What q is: ``"rows"``, or a function of params, state and inputs that gives it."""

FREQUENCIES = (2.0**0.5, 3.0**0.5, 5.0**0.5, 7.0**0.5)
"""One for each direction of the params that is looked along, to tell the norms of rows apart."""

FLAT = 1e-3
"""Rows whose norms are smaller, in units of their root mean square, are taken to have that."""


def require_scaling(call: str, scaling: object) -> None:
    """Refuse what is no scaling.

    Raises:
        SettingError: Naming the call, and what there is.
    """
    if not (scaling is None or scaling in get_args(Named) or callable(scaling)):
        raise SettingError(
            f"{call}: the scaling is {spelled(scaling)}, wanted is 'rows', or a function "
            "(params, state, inputs) -> positive numbers shaped like the state."
        )


def scaled(
    scaling: Scaling | None,
    dynamics: Dynamics[Params, State, Inputs],
    params: Params,
    state: State,
    inputs: Inputs,
    signs: State,
) -> tuple[State, State]:
    """Give ``q ν`` and ``ν / q``, of one ν or of a stack of them.

    Raises:
        StructureError: If what a user's function gives is not shaped like the state.
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
    """Give the roots of the norms of the rows of ∂F/∂θ, relative to each other, leaf by leaf.

    The norms are told from how far a few steps along directions of the params move each coordinate
    of the next state: with random signs for a direction, the square of that is the squared norm on
    average. The directions are the same at every step, and so the scaling does not depend on ν. For
    a matrix they are products of signs of rows and of columns: what one direction sees too little
    of, all rows that read the same inputs lack alike.

    The steps are finite ones, of which no truth is asked: that needs nothing but `forward`.
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
    """Make directions of the params of signs: for each leaf, a product of signs along each axis.

    The signs are those of cosines whose frequencies have nothing to do with each other. They need
    not be random but alike on all backends, and a compiler works them out once.
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
