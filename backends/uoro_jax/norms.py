"""Euclidean norms of several trees at once: safe at any magnitude, cheap at usual magnitudes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from uoro_jax.factors import Outer

_Leaves = list[Any]


def norms(each: list[_Leaves]) -> list[Any]:
    """Compute the norm of each list of real arrays, some of which are given by their factors.

    All norms share one guard: if every plain sum of squares is finite and large enough, the norms
    are the roots of these sums; otherwise all norms are computed again, from arrays scaled by
    their largest entry.
    """
    sums = [_sum_of_squares(leaves) for leaves in each]
    squares = [square for square, _ in sums]
    usual = [(square > least) & (square < jnp.inf) for square, least in sums if least is not None]
    if not usual:
        return squares
    found: list[Any] = lax.cond(
        _everywhere(jnp.stack(usual).all()), _roots, _with_care, squares, each
    )
    return found


# Named functions, not lambdas: outside of jit, JAX caches a compiled branch by its function.
def _roots(squares: list[Any], each: list[_Leaves]) -> list[Any]:
    return [jnp.sqrt(square) for square in squares]


def _with_care(squares: list[Any], each: list[_Leaves]) -> list[Any]:
    return [
        _scaled(leaves).astype(square.dtype) if leaves else square
        for square, leaves in zip(squares, each, strict=True)
    ]


@custom_vmap
def _everywhere(flag: Any) -> Any:
    """Return the flag; under `vmap`, whether all flags hold, so that a branch stays a branch."""
    return flag


@_everywhere.def_vmap
def _(size: int, batched: list[bool], flags: Any) -> tuple[Any, bool]:
    return _everywhere(jnp.all(flags)), False


def _sum_of_squares(leaves: _Leaves) -> tuple[Any, Any]:
    """Compute the sum of squares, and the sum below which squares that underflow could matter."""
    total, weight, entries = jnp.float32(0), 1.0, 1
    for leaf in leaves:
        if isinstance(leaf, Outer):
            left, right = _squares(leaf.left), _squares(leaf.right)
            total, weight = total + left * right, weight + left + right
            entries += leaf.left.size + leaf.right.size
        else:
            total = total + _squares(leaf)
            entries += leaf.size
    if not leaves:
        return total, None
    kind = np.finfo(total.dtype)
    return total, float(kind.tiny) / float(kind.eps) * entries * weight


@custom_vmap
def _squares(array: Any) -> Any:
    """Compute the sum of squares; on a CPU, of an array first folded in half three times.

    Only arrays that fit the cache are folded. A reduction of XLA on a CPU has a fixed cost, a
    twentieth of a step of 64 units; the reductions of a stack at once have none.
    """
    squares = jnp.square(array)
    if jax.default_backend() == "cpu" and array.ndim > 1 and 2048 <= array.size < 2**17:
        for _ in range(3):
            half, odd = divmod(squares.shape[0], 2)
            if odd or half == 0:
                break
            squares = squares[:half] + squares[half:]
    return jnp.sum(squares)


@_squares.def_vmap
def _(size: int, batched: list[bool], arrays: Any) -> tuple[Any, bool]:
    return jnp.sum(jnp.square(arrays), tuple(range(1, jnp.ndim(arrays)))), True


def _scaled(leaves: _Leaves) -> Any:
    """Compute the norm of the leaves' norms, each leaf scaled by its largest entry."""
    each = []
    for leaf in leaves:
        parts = (leaf.left, leaf.right) if isinstance(leaf, Outer) else (leaf,)
        each.append(jnp.stack([_scaled_norm(part) for part in parts]).prod())
    return _scaled_norm(jnp.stack(each))


def _scaled_norm(array: Any) -> Any:
    largest = jnp.max(jnp.abs(array), initial=0.0)
    usable = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    length = largest * jnp.sqrt(jnp.sum((array / usable) ** 2))
    return jnp.where(usable == largest, length, largest)
