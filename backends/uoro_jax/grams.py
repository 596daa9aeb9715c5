"""Inner products and combinations of stacks, without writing out those that are outer products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from uoro_jax.factors import Outer, factored
from uoro_jax.trees import coordinates_of


def with_gram(carried: Any, make: Callable[[], Any]) -> tuple[Any, Callable[[Any, Any], Any]]:
    """Do what `uoro.algebra.with_gram` says, leaf by leaf."""
    leaves, structure = jax.tree.flatten(carried)
    stacks = [_stack(leaf, piece) for leaf, piece in zip(leaves, factored(make)[1], strict=True)]
    count = leaves[0].shape[0] if leaves else 0
    own, across, fresh = (
        sum(blocks, jnp.zeros((count, count), jnp.float32))
        for blocks in zip(*(stack.products() for stack in stacks), strict=True)
    )
    gram = jnp.block([[own, across], [across.T, fresh]])

    def mixed(of_carried: Any, of_fresh: Any) -> Any:
        return structure.unflatten([stack.mixed(of_carried, of_fresh) for stack in stacks])

    return gram, mixed


class _Written(NamedTuple):
    """A leaf of both stacks, of which both are written out."""

    carried: Any
    fresh: Any

    def products(self) -> tuple[Any, Any, Any]:
        """Give the inner products of what is carried, of that with what is fresh, and of this."""
        rows, others = _rows(self.carried), _rows(self.fresh)
        return rows @ rows.T, rows @ others.T, others @ others.T

    def mixed(self, of_carried: Any, of_fresh: Any) -> Any:
        """Combine the entries linearly."""
        both = (of_carried, self.carried), (of_fresh, self.fresh)
        parts = [(weights @ leaf.reshape((leaf.shape[0], -1))) for weights, leaf in both]
        shape = of_carried.shape[0], *self.carried.shape[1:]
        return (parts[0] + parts[1]).reshape(shape).astype(self.carried.dtype)


class _Factored(NamedTuple):
    """A leaf of which the fresh stack is an outer product with one factor for all its entries.

    Attributes:
        carried: The carried one.
        own: The factor that each entry has of its own, laid out along the leaf's axes.
        shared: The other, of as many axes.
    """

    carried: Any
    own: Any
    shared: Any

    def products(self) -> tuple[Any, Any, Any]:
        """Give the same as of leaves written out."""
        rows, own = self.carried.reshape((self.carried.shape[0], -1)), _rows(self.own)
        axes = [axis for axis, size in enumerate(self.shared.shape) if axis and size != 1]
        lengths = tuple(self.shared.shape[axis] for axis in axes)
        along = jnp.tensordot(
            self.carried, self.shared.reshape(lengths), (axes, list(range(len(axes))))
        )
        squares = jnp.vdot(self.shared, self.shared)
        return rows @ rows.T, _rows(along) @ own.T, squares * (own @ own.T)

    def mixed(self, of_carried: Any, of_fresh: Any) -> Any:
        """Combine the entries linearly: of the fresh ones only their own factors."""
        count, lead = of_carried.shape[0], self.carried.shape[0]
        own = (of_fresh @ _rows(self.own)).reshape((count, *self.own.shape[1:]))
        carried = (of_carried @ self.carried.reshape((lead, -1))).reshape(
            (count, *self.carried.shape[1:])
        )
        return (carried + own * self.shared).astype(self.carried.dtype)


def _stack(carried: Any, piece: Any) -> _Written | _Factored:
    if not isinstance(piece, Outer):
        return _Written(carried, piece)
    if piece.laid is None or coordinates_of(carried) == 2:
        return _Written(carried, piece.product)
    own, shared = piece.laid if piece.laid[1].shape[0] == 1 else piece.laid[::-1]
    if shared.shape[0] != 1:
        return _Written(carried, piece.product)
    return _Factored(carried, own, shared)


def _rows(leaf: Any) -> Any:
    """Lay entries out as rows, of a complex one the real parts before the imaginary ones."""
    rows = leaf.reshape((leaf.shape[0], -1))
    if coordinates_of(leaf) == 2:
        return jnp.concatenate([rows.real, rows.imag], 1)
    return rows
