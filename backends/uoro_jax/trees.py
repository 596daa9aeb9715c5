"""Which leaves of a pytree move, and what their numbers are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def coordinates_of(leaf: Any) -> int:
    """Count the coordinates of an entry: 1 if real, 2 if complex, 0 if not differentiable."""
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return 2
    return int(jnp.issubdtype(dtype, jnp.floating))


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array, of JAX or NumPy."""
    return isinstance(leaf, (jax.Array, np.ndarray))


def moving(tree: Any) -> Any:
    """Put ``None`` in the place of the leaves without coordinates."""
    return jax.tree.map(lambda leaf: leaf if coordinates_of(leaf) else None, tree)


def like(tree: Any, following: Any) -> Any:
    """Keep the leaves of ``following`` at which ``tree`` has coordinates."""
    return jax.tree.map(lambda leaf, new: new if coordinates_of(leaf) else None, tree, following)


def join(tree: Any, moved: Any) -> Any:
    """Put leaves into the places of those of ``tree`` that have coordinates."""
    leaves = iter(jax.tree.leaves(moved))
    return jax.tree.map(lambda leaf: next(leaves) if coordinates_of(leaf) else leaf, tree)


def conjugate(tree: Any) -> Any:
    """Conjugate complex leaves: JAX pairs ``Re(u v)``, where the inner product is ``Re(u* v)``."""
    return jax.tree.map(lambda leaf: jnp.conj(leaf) if coordinates_of(leaf) == 2 else leaf, tree)


def widen(leaf: Any) -> Any:
    """Hold a leaf in at least float32, where sums are taken."""
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
