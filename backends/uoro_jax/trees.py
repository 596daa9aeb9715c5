"""Leaves of a pytree that have coordinates, and the real numbers in them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uoro.arguments import mismatch
from uoro.errors import StructureError, spelled


def coordinates_of(leaf: Any) -> int:
    """Count the coordinates of an entry: 1 if real, 2 if complex, 0 if not differentiable."""
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return 2
    return int(jnp.issubdtype(dtype, jnp.floating))


def is_array(leaf: Any) -> bool:
    """Return whether a leaf is an array of JAX or NumPy, of numbers or keys."""
    return isinstance(leaf, jax.Array) or (
        isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "OSUMm"
    )


def moving(tree: Any) -> Any:
    """Return a tree with ``None`` in the place of the leaves without coordinates."""
    return jax.tree.map(lambda leaf: leaf if coordinates_of(leaf) else None, tree)


def like(tree: Any, following: Any) -> Any:
    """Return the leaves of ``following`` where ``tree`` has coordinates, ``None`` elsewhere."""
    return jax.tree.map(lambda leaf, new: new if coordinates_of(leaf) else None, tree, following)


def join(tree: Any, moved: Any) -> Any:
    """Return ``tree`` with the leaves that have coordinates replaced by those of ``moved``."""
    leaves = iter(jax.tree.leaves(moved))
    return jax.tree.map(lambda leaf: next(leaves) if coordinates_of(leaf) else leaf, tree)


def conjugate(tree: Any) -> Any:
    """Conjugate complex leaves: JAX pairs ``Re(u v)``, where the inner product is ``Re(u* v)``."""
    return jax.tree.map(lambda leaf: jnp.conj(leaf) if coordinates_of(leaf) == 2 else leaf, tree)


def widen(leaf: Any) -> Any:
    """Cast a leaf to at least float32, the precision of sums."""
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def require_arrays(call: str, tree: Any) -> None:
    """Check that every leaf of a pytree is an array of JAX or NumPy, of numbers or keys.

    Raises:
        StructureError: If a leaf is none.
    """
    try:
        strangers = [leaf for leaf in jax.tree.leaves(tree) if not is_array(leaf)]
    except (TypeError, ValueError, DeprecationWarning):  # A generator, or keys without an order.
        strangers = [tree]
    if strangers:
        hint = "Convert it with jax.numpy.asarray(...)."
        raise StructureError(mismatch(call, "", "arrays", spelled(strangers[0]), hint))
