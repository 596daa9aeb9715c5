"""Outer products found in a trace, so that their norms need not look at every entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun


class Outer(NamedTuple):
    """The factors of an outer product.

    Attributes:
        left: An array.
        right: Another; each entry of the product is an entry of the one times one of the other.
    """

    left: Any
    right: Any


def factored(make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Run a function, and tell for each leaf of its result whether it is an outer product.

    What a step owes to the weights of a matrix product is one: the cotangent of the result times
    what went in. Its norm is the product of two norms of vectors.

    Returns:
        The result, and for each of its leaves the leaf, or the `Outer` it is made of.
    """
    closed, shape = jax.make_jaxpr(make, return_shape=True)()
    jaxpr = closed.jaxpr
    count = len(jaxpr.outvars)
    factors = [_factors(jaxpr, leaf) for leaf in jaxpr.outvars]
    wanted = [factor for pair in factors if pair for factor in pair]
    names = jaxpr.debug_info._replace(result_paths=None)
    more = jaxpr.replace(outvars=[*jaxpr.outvars, *wanted], debug_info=names)
    found = jaxpr_as_fun(ClosedJaxpr(more, closed.consts))()
    leaves, rest = found[:count], iter(found[count:])
    pieces = [
        Outer(next(rest), next(rest)) if pair else leaf
        for leaf, pair in zip(leaves, factors, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(shape), leaves), pieces


def _factors(jaxpr: Jaxpr, leaf: Any) -> tuple[Any, Any] | None:
    """Look for the factors of a variable, through what only moves its entries about."""
    while not isinstance(leaf, Literal):
        made = next((equation for equation in jaxpr.eqns if leaf in equation.outvars), None)
        if made is None:
            return None
        if made.primitive.name == "dot_general" and _sums_nothing(made):
            left, right = made.invars
            return left, right
        if made.primitive.name not in ("transpose", "reshape", "squeeze"):
            return None
        leaf = made.invars[0]
    return None


def _sums_nothing(product: JaxprEqn) -> bool:
    """Whether each pair of entries has a place of its own in a product."""
    (contracted, _), (batch, _) = product.params["dimension_numbers"]
    left: Any = product.invars[0].aval
    return all(left.shape[axis] == 1 for axis in (*contracted, *batch))
