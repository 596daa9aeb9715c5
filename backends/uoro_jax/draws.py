"""Random draws of JAX: signs, normal numbers and directions, for any tree."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from uoro.backend import Distribution
from uoro_jax.trees import coordinates_of, moving


def draw(
    key: jax.Array, like: Any, distribution: Distribution, batch: tuple[int, ...], stacked: int
) -> Any:
    """Draw independent tangents, as `Backend.random` specifies; a sign costs one random bit."""
    leaves, structure = jax.tree.flatten(moving(like))
    if not leaves:
        return like
    shapes = [
        (*leaf.shape[:stacked], *batch, *leaf.shape[stacked:], *pair_axis(leaf)) for leaf in leaves
    ]
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    flat = _signs(key, ends[-1]) if distribution == "signs" else _normal(key, ends[-1], leaves)
    draws = [
        flat[start:end].reshape(shape)
        for start, end, shape in zip([0, *ends[:-1]], ends, shapes, strict=True)
    ]
    if distribution == "spherical":
        lead = draws[0].shape[: stacked + len(batch)]
        rows = jnp.concatenate([draw.reshape((*lead, -1)) for draw in draws], -1)
        scale = math.sqrt(rows.shape[-1]) / jnp.linalg.norm(rows, axis=-1)
        draws = [draw * scale.reshape(lead + (1,) * (draw.ndim - len(lead))) for draw in draws]
    each = zip(draws, leaves, strict=True)
    return jax.tree.unflatten(structure, [_cast(draw, leaf) for draw, leaf in each])


def pair_axis(leaf: Any) -> tuple[int, ...]:
    """Return the extra axis of the real array that stands for a leaf: (2,) if it is complex."""
    return (2,) if coordinates_of(leaf) == 2 else ()


def _signs(key: jax.Array, count: int) -> Any:
    words = jax.random.bits(key, (-(-count // 32), 1), jnp.uint32)
    return (((words >> jnp.arange(32, dtype=jnp.uint32)) & 1).reshape(-1)) * 2.0 - 1.0


def _normal(key: jax.Array, count: int, leaves: list[Any]) -> Any:
    real: Any = jnp.finfo
    wide = jnp.promote_types(real(jnp.result_type(*leaves)).dtype, jnp.float32)
    return jax.random.normal(key, (count,), wide)


def _cast(draw: Any, leaf: Any) -> Any:
    """Cast real numbers to the dtype of a leaf, pairs of them to complex numbers."""
    if pair_axis(leaf):
        draw = lax.complex(draw[..., 0], draw[..., 1])
    return draw.astype(leaf.dtype)
