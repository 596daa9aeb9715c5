"""Inner products and combinations of stacks, without materializing outer products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uoro_jax.factors import Outer, factored
from uoro_jax.trees import coordinates_of

SMALL = 2048
"""Leaves with fewer numbers per entry are concatenated: a matrix product has a fixed cost."""


def with_products(
    carried: Any, make: Callable[[], Any]
) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
    """Compute what `uoro.algebra.with_products` specifies.

    Where the built leaves are outer products with one common factor, ``o_j ⊗ r``, their inner
    products are ``<o_i, o_j> ‖r‖²``, the inner products with the carried entries are
    ``<T_i r, o_j>``, and a combination is a combination of the ``o_j`` times ``r``. The carried
    stack is then read once for the inner products and once for the combinations.
    """
    leaves, structure = jax.tree.flatten(carried)
    made, pieces = factored(make)
    fresh = [_by_factors(*each) for each in zip(jax.tree.leaves(made), pieces, strict=True)]
    rows = [_rows(leaf) for leaf in leaves]
    groups = _groups(rows)
    blocks = [_beside([rows[i] for i in group]) for group in groups]
    own_rows = [_rows(leaf.own) for leaf in fresh]
    scaled_rows = [row * leaf.square for leaf, row in zip(fresh, own_rows, strict=True)]
    along_rows = [_along(*each) for each in zip(fresh, leaves, rows, strict=True)]
    own_groups = _groups(own_rows)
    own, scaled, along = (
        [_beside([each[i] for i in group]) for group in own_groups]
        for each in (own_rows, scaled_rows, along_rows)
    )

    def mixed(of_carried: Any, of_fresh: Any) -> Any:
        found = _combined(of_carried, groups, blocks, rows)
        parts = _combined(of_fresh, own_groups, own, own_rows)
        return jax.tree.unflatten(
            structure,
            [
                _sum(leaf, found[i], each, parts[i])
                for i, (leaf, each) in enumerate(zip(leaves, fresh, strict=True))
            ],
        )

    return _all_products(along, own), _all_products(scaled, own), mixed


def _combined(
    weights: Any, groups: list[list[int]], blocks: list[Any], rows: Sequence[Any]
) -> dict[int, Any]:
    """Return the combinations of the rows of each leaf, by the number of the leaf."""
    found = dict[int, Any]()
    for group, block in zip(groups, blocks, strict=True):
        found |= zip(group, _apart(weights @ block, [rows[i] for i in group]), strict=True)
    return found


def _all_products(left: list[Any], right: list[Any]) -> Any:
    """Add up the inner products of several blocks of rows."""
    each = [_products(*blocks) for blocks in zip(left, right, strict=True)]
    return sum(each[1:], each[0])


FEW = 16
"""Fewer inner products than this are computed one by one."""


class _Fresh(NamedTuple):
    """A leaf of the built stack, as a product of two factors.

    Attributes:
        own: Factor that differs between entries.
        shared: Factor common to all entries, with as many axes; one if ``None``.
        square: Sum of squares of the common factor.
    """

    own: Any
    shared: Any = None
    square: Any = 1.0


def _by_factors(leaf: Any, piece: Any) -> _Fresh:
    """Return a leaf by its factors if one of them is common to all entries."""
    laid = piece.laid if isinstance(piece, Outer) and coordinates_of(leaf) == 1 else None
    for own, shared in (laid, laid[::-1]) if laid is not None else ():
        if shared.shape[0] == 1:
            return _Fresh(own, shared, jnp.vdot(shared, shared))
    return _Fresh(leaf)


def _products(left: Any, right: Any) -> Any:
    """Compute the inner products of rows, one by one where they are few.

    XLA on a CPU calls a library for a matrix product whose result has 16 numbers or more. For
    smaller results XLA generates a loop, which takes up to ten times as long.
    """
    if len(left) * len(right) >= FEW:
        return left @ right.T
    return jnp.stack([jnp.stack([jnp.vdot(row, other) for other in right]) for row in left])


def _along(fresh: _Fresh, carried: Any, rows: Any) -> Any:
    """Contract the carried stack with the common factor of the built entries."""
    if fresh.shared is None:
        return rows
    axes = [axis for axis, size in enumerate(fresh.shared.shape) if axis and size != 1]
    lengths = tuple(fresh.shared.shape[axis] for axis in axes)
    shared = fresh.shared.reshape(lengths)
    return _rows(jnp.tensordot(carried, shared, (axes, list(range(len(axes))))))


def _sum(leaf: Any, carried: Any, fresh: _Fresh, part: Any) -> Any:
    """Add the combinations of the carried and of the built entries."""
    shape = (carried.shape[0], *leaf.shape[1:])
    if coordinates_of(leaf) == 2:
        half = carried.shape[1] // 2
        total = carried + part
        return (total[:, :half] + 1j * total[:, half:]).reshape(shape).astype(leaf.dtype)
    part = part.reshape((part.shape[0], *fresh.own.shape[1:]))
    if fresh.shared is not None:
        part = part * fresh.shared
    return (carried.reshape(shape) + part).astype(leaf.dtype)


def _groups(rows: Sequence[Any]) -> list[list[int]]:
    """Group small leaves of one dtype together, and each other leaf alone."""
    groups = dict[Any, list[int]]()
    for i, row in enumerate(rows):
        groups.setdefault(row.dtype if row.shape[1] < SMALL else i, []).append(i)
    return list(groups.values())


def _rows(leaf: Any) -> Any:
    """Return the entries as rows; of complex numbers, real parts before imaginary parts."""
    rows = leaf.reshape((leaf.shape[0], math.prod(leaf.shape[1:])))
    if coordinates_of(leaf) == 2:
        return jnp.concatenate([rows.real, rows.imag], 1)
    return rows


def _beside(rows: list[Any]) -> Any:
    return rows[0] if len(rows) == 1 else jnp.concatenate(rows, 1)


def _apart(matrix: Any, rows: Sequence[Any]) -> list[Any]:
    """Split the columns of a matrix by the lengths of the rows."""
    ends = np.cumsum([row.shape[1] for row in rows]).tolist()
    return [matrix[:, end - row.shape[1] : end] for end, row in zip(ends, rows, strict=True)]
