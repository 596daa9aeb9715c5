"""Outer products found in a trace: their norms follow from the norms of two vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun


class Outer(NamedTuple):
    """The factors of an outer product.

    Attributes:
        left: An array.
        right: An array; each entry of the product is an entry of ``left`` times one of ``right``.
        laid: Both factors with axes of length one inserted, so that ``laid[0] * laid[1]`` is the
            product; ``None`` where the transposes and reshapes of the product cannot be followed.
    """

    left: Any
    right: Any
    laid: tuple[Any, Any] | None = None


def factored(make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Run a function, and find the leaves of its result that are outer products.

    The gradient of the weights of a matrix-vector product is an outer product: the cotangent of
    the result times the vector. Its norm is the product of the norms of these two vectors.

    Returns:
        The result, and a list with one entry per leaf of the result: the `Outer` with the leaf's
        factors, or the leaf itself.
    """
    closed, shape = jax.make_jaxpr(make, return_shape=True)()
    jaxpr = closed.jaxpr
    count = len(jaxpr.outvars)
    origins = [_origin(jaxpr, leaf) for leaf in jaxpr.outvars]
    wanted = [factor for origin in origins if origin for factor in origin[0].invars]
    names = jaxpr.debug_info._replace(result_paths=None)
    more = jaxpr.replace(outvars=[*jaxpr.outvars, *wanted], debug_info=names)
    found = jaxpr_as_fun(ClosedJaxpr(more, closed.consts))()
    leaves, rest = found[:count], iter(found[count:])
    pieces = [
        _outer(origin, next(rest), next(rest)) if origin else leaf
        for leaf, origin in zip(leaves, origins, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(shape), leaves), pieces


_Origin = tuple[JaxprEqn, list[JaxprEqn]]
"""The equation of an outer product, and the equations that permuted its entries since, in order."""


def _origin(jaxpr: Jaxpr, leaf: Any) -> _Origin | None:
    """Return the outer product behind a variable, through transposes and reshapes."""
    moves = list[JaxprEqn]()
    while not isinstance(leaf, Literal):
        made = next((equation for equation in jaxpr.eqns if leaf in equation.outvars), None)
        if made is None:
            return None
        if made.primitive.name == "dot_general" and _sums_nothing(made):
            return made, moves[::-1]
        if made.primitive.name not in ("transpose", "reshape", "squeeze"):
            return None
        moves.append(made)
        leaf = made.invars[0]
    return None


def _outer(origin: _Origin, left: Any, right: Any) -> Outer:
    """Build the `Outer` of a product, and apply the moves to its factors."""
    product, moves = origin
    (of_left, of_right), (batch, _) = product.params["dimension_numbers"]
    free = [
        [size for axis, size in enumerate(factor.shape) if axis not in gone]
        for factor, gone in ((left, of_left), (right, of_right))
    ]
    kind: Any = product.outvars[0].aval
    if batch or kind.dtype != left.dtype:
        return Outer(left, right)
    laid: Any = (
        left.reshape(tuple(free[0]) + (1,) * len(free[1])),
        right.reshape((1,) * len(free[0]) + tuple(free[1])),
    )
    for move in moves:
        if move.primitive.name == "transpose":
            laid = tuple(jnp.transpose(each, move.params["permutation"]) for each in laid)
            continue
        kinds: list[Any] = [move.invars[0].aval, move.outvars[0].aval]
        before, after = (kind.shape for kind in kinds)
        if _long(before) != _long(after):
            return Outer(left, right)
        laid = tuple(each.reshape(_following(each.shape, before, after)) for each in laid)
    return Outer(left, right, laid)


def _long(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _following(
    shape: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[int, ...]:
    """Return a factor's shape after the product lost or gained axes of length one."""
    sizes = iter([own for own, whole in zip(shape, before, strict=True) if whole != 1])
    return tuple(1 if whole == 1 else next(sizes) for whole in after)


def _sums_nothing(product: JaxprEqn) -> bool:
    """Return whether a product sums nothing: each pair of entries has an entry of its own."""
    (contracted, _), (batch, _) = product.params["dimension_numbers"]
    left: Any = product.invars[0].aval
    return all(left.shape[axis] == 1 for axis in (*contracted, *batch))
