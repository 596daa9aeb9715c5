"""Factors of the leaves of a stack, found in its trace: outer products, rows of a table, zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from uoro_jax.factors import Outer, factored

_CALLS = ("jit", "pjit", "closed_call", "core_call")
"""Primitives that run a trace of their own, as `jax.jit` within a model does."""


def factors(make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Compute what `uoro.backend.FindsFactors` specifies.

    The gradient of a table of which one row was looked up is a scatter of one row into zeros: an
    outer product of the row and of a vector with a single one. The compiler drops the products
    that are computed here and used by no one.
    """
    closed, shape = jax.make_jaxpr(make, return_shape=True)()
    inlined = _inlined(closed)
    structure = jax.tree.structure(shape)
    tables = [_table(inlined.jaxpr, leaf) for leaf in inlined.jaxpr.outvars]
    wanted = [part for made in tables if made for part in made.invars]
    names = inlined.jaxpr.debug_info._replace(result_paths=None)
    outvars = [*inlined.jaxpr.outvars, *wanted]
    more = ClosedJaxpr(inlined.jaxpr.replace(outvars=outvars, debug_info=names), inlined.consts)
    everything, pieces = factored(lambda: jaxpr_as_fun(more)())
    leaves, rest = everything[: len(tables)], iter(everything[len(tables) :])
    found = [
        _scattered(made, next(rest), next(rest), next(rest))
        if made
        else _laid(inlined.jaxpr, leaf, piece)
        for made, leaf, piece in zip(tables, inlined.jaxpr.outvars, pieces, strict=False)
    ]
    return jax.tree.unflatten(structure, leaves), found


def _laid(jaxpr: Jaxpr, leaf: Any, piece: Any) -> Any:
    if _is_zero(jaxpr, leaf):
        return ()
    return piece.laid if isinstance(piece, Outer) else None


def _inlined(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return a trace in which the traces that it calls are written out."""
    while any(equation.primitive.name in _CALLS for equation in closed.jaxpr.eqns):
        closed = jax.make_jaxpr(_evaluated(closed))()
    return closed


def _evaluated(closed: ClosedJaxpr) -> Callable[[], Any]:
    """Return a function that runs a trace, and what is called in it, operation by operation."""
    names = closed.jaxpr.debug_info._replace(arg_names=None, result_paths=None)

    def run() -> list[Any]:
        values = dict[Any, Any](zip(closed.jaxpr.constvars, closed.consts, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else values[atom]

        for equation in closed.jaxpr.eqns:
            if equation.primitive.name in _CALLS:
                inner: Any = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
                results = jaxpr_as_fun(inner)(*map(read, equation.invars))
            else:
                variables = dict.fromkeys(
                    atom for atom in equation.invars if not isinstance(atom, Literal)
                )
                alone = closed.jaxpr.replace(
                    constvars=[],
                    invars=list(variables),
                    outvars=equation.outvars,
                    eqns=[equation],
                    debug_info=names,
                )
                results = jaxpr_as_fun(ClosedJaxpr(alone, []))(*map(read, variables))
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in closed.jaxpr.outvars]

    return run


def _made(jaxpr: Jaxpr, leaf: Any) -> JaxprEqn | None:
    if isinstance(leaf, Literal):
        return None
    return next((equation for equation in jaxpr.eqns if leaf in equation.outvars), None)


def _is_zero(jaxpr: Jaxpr, leaf: Any) -> bool:
    """Return whether a variable is zero whatever the numbers."""
    made = _made(jaxpr, leaf)
    if made is None:
        return isinstance(leaf, Literal) and bool(np.all(np.asarray(leaf.val) == 0))
    moves = ("broadcast_in_dim", "reshape", "squeeze", "transpose", "convert_element_type")
    return made.primitive.name in moves and _is_zero(jaxpr, made.invars[0])


def _table(jaxpr: Jaxpr, leaf: Any) -> JaxprEqn | None:
    """Return the scatter behind a variable, if it puts one whole row into zeros."""
    made = _made(jaxpr, leaf)
    if made is None or made.primitive.name != "scatter-add" or not _is_zero(jaxpr, made.invars[0]):
        return None
    numbers = made.params["dimension_numbers"]
    if numbers.operand_batching_dims:
        return None
    table, updates = (made.invars[i].aval.shape for i in (0, 2))  # type: ignore[attr-defined]  # arrays
    windows = [size for axis, size in enumerate(table) if axis not in numbers.inserted_window_dims]
    found = [updates[axis] for axis in numbers.update_window_dims]
    others = [size for i, size in enumerate(updates) if i not in numbers.update_window_dims]
    whole = windows == found and all(size == 1 for size in others)
    return made if whole and 0 not in numbers.inserted_window_dims else None


def _scattered(made: JaxprEqn, table: Any, index: Any, row: Any) -> tuple[Any, Any]:
    """Return the factors of a scatter of one row: the row, and a vector with a single one."""
    numbers = made.params["dimension_numbers"]
    inserted = numbers.inserted_window_dims
    laid = tuple(1 if axis in inserted else size for axis, size in enumerate(table.shape))
    small = tuple(size if axis in inserted else 1 for axis, size in enumerate(table.shape))
    one = lax.scatter_add(
        jnp.zeros(small, table.dtype),
        index,
        jnp.ones((1,) * row.ndim, row.dtype),
        numbers,
        indices_are_sorted=made.params["indices_are_sorted"],
        unique_indices=made.params["unique_indices"],
        mode=made.params["mode"],
    )
    return row.reshape(laid), one
