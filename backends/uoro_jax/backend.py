"""The vector algebra, loops and random draws of JAX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from uoro.backend import Law
from uoro.errors import SettingError, StructureError
from uoro_jax.dynamics import JaxDynamics


class JaxBackend:
    """JAX arrays on one device; trees are pytrees.

    No global flag is set: 64-bit numbers are there if the user enabled them, or within
    `precision`.

    Args:
        device: A platform, with an index if wanted: ``"cpu"``, ``"gpu"``, ``"gpu:1"``. JAX's
            default device if not given.

    Raises:
        SettingError: If there is no such device.
    """

    name = "jax"
    compiled = True
    xp = jnp
    lacks: Mapping[str, str] = MappingProxyType({})

    def __init__(self, *, device: str | None = None) -> None:
        self._device = None if device is None else _find_device(device)

    @property
    def device(self) -> str:
        """The device, as JAX spells it."""
        chosen = self._device or jax.devices()[0]
        return f"{chosen.platform}:{chosen.id}"

    def dynamics(self, transition: Callable[..., Any], *, has_aux: bool = False) -> JaxDynamics:
        """Make `Dynamics` of a function over any pytree."""
        return JaxDynamics(self, transition, has_aux)

    def named_leaves(self, tree: Any) -> list[tuple[str, Any]]:
        """List the leaves with their paths."""
        return [
            (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
        ]

    def map(self, function: Callable[..., Any], tree: Any, *others: Any) -> Any:
        """Apply a function leaf by leaf, keeping the dtypes of the first tree."""

        def apply(leaf: Any, *rest: Any) -> Any:
            return jnp.asarray(function(leaf, *rest)).astype(leaf.dtype)

        try:
            return jax.tree.map(apply, tree, *others)
        except ValueError as error:
            raise StructureError(f"backend.map(function, *trees): {error}") from error

    def zeros(self, like: Any, *, batch: tuple[int, ...] = ()) -> Any:
        """Make zeros shaped ``batch + leaf.shape``."""
        return jax.tree.map(lambda leaf: jnp.zeros(batch + jnp.shape(leaf), leaf.dtype), like)

    def combine(self, *terms: tuple[Any, Any]) -> Any:
        """Add up ``scalar * tree``."""
        scalars = [scalar for scalar, _ in terms]

        def add(*leaves: Any) -> Any:
            parts = [s * _widen(leaf) for s, leaf in zip(scalars, leaves, strict=True)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            return total

        return self.map(add, *(tree for _, tree in terms))

    def matmul(self, weights: Any, matrix: Any) -> Any:
        """Multiply; JAX promotes."""
        return weights @ matrix

    def inner(self, x: Any, y: Any) -> Any:
        """Sum of products, in at least float32."""
        pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
        return sum((jnp.sum(_widen(a) * _widen(b)) for a, b in pairs), jnp.float32(0))

    def norm(self, x: Any) -> Any:
        """Euclidean norm; scaled by the largest entry only where plain squares would not do."""
        leaves = [_widen(leaf) for leaf in jax.tree.leaves(x)]
        square = sum((jnp.sum(a * a) for a in leaves), jnp.float32(0))
        kind = np.finfo(square.dtype)
        # Below this, squares that underflow could matter to the sum.
        least = float(kind.tiny) / float(kind.eps) * max(1, sum(a.size for a in leaves))

        if not leaves:
            return jnp.sqrt(square)
        usual = (square > least) & (square < jnp.inf)
        return lax.cond(usual, _root, _scaled_norm, square, leaves)

    def basis(self, like: Any) -> Any:
        """Stack the unit vectors."""
        leaves, structure = jax.tree.flatten(like)
        sizes = [leaf.size for leaf in leaves]
        columns = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
        return jax.tree.unflatten(
            structure,
            [
                jnp.asarray(part.reshape((-1, *leaf.shape)), leaf.dtype)
                for part, leaf in zip(columns, leaves, strict=True)
            ],
        )

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Map by `jax.vmap`."""
        return jax.vmap(function)

    def scan(
        self,
        body: Callable[[Any, Any], tuple[Any, Any]],
        carry: Any,
        items: Any,
        *,
        reverse: bool = False,
    ) -> tuple[Any, Any]:
        """Loop by `jax.lax.scan`."""
        return lax.scan(body, carry, items, reverse=reverse)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile by `jax.jit`."""
        return jax.jit(function)

    def key(self, seed: int) -> jax.Array:
        """Make a typed PRNG key of a seed."""
        return jax.random.key(seed)

    def fold(self, key: jax.Array, number: Any) -> jax.Array:
        """Derive the key numbered ``number``."""
        return jax.random.fold_in(key, number)

    def random(
        self,
        key: jax.Array,
        like: Any,
        law: Law,
        batch: tuple[int, ...] = (),
        stacked: int = 0,
    ) -> Any:
        """Draw with JAX's generator; signs take one random bit each."""
        leaves, structure = jax.tree.flatten(like)
        shapes = [leaf.shape[:stacked] + batch + leaf.shape[stacked:] for leaf in leaves]
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        if not leaves:
            return like
        if law == "signs":
            words = jax.random.bits(key, (-(-ends[-1] // 32), 1), jnp.uint32)
            flat = (((words >> jnp.arange(32, dtype=jnp.uint32)) & 1).reshape(-1)) * 2.0 - 1.0
        else:
            wide = jnp.promote_types(jnp.result_type(*leaves), jnp.float32)
            flat = jax.random.normal(key, (ends[-1],), wide)
        starts = [0, *ends[:-1]]
        draws = [
            flat[start:end].reshape(shape)
            for start, end, shape in zip(starts, ends, shapes, strict=True)
        ]
        if law == "spherical":
            lead = draws[0].shape[: stacked + len(batch)]
            rows = jnp.concatenate([draw.reshape((*lead, -1)) for draw in draws], -1)
            scale = math.sqrt(rows.shape[-1]) / jnp.linalg.norm(rows, axis=-1)
            draws = [draw * scale.reshape(lead + (1,) * (draw.ndim - len(lead))) for draw in draws]
        return jax.tree.unflatten(
            structure, [draw.astype(leaf.dtype) for draw, leaf in zip(draws, leaves, strict=True)]
        )

    def from_host(self, tree: Any, *, dtype: str | None = None) -> Any:
        """Turn numbers into arrays on the device; cast floating leaves if asked to."""

        def convert(leaf: Any) -> Any:
            array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf))
            if dtype is not None and jnp.issubdtype(array.dtype, jnp.floating):
                array = array.astype(dtype)
            return array if self._device is None else jax.device_put(array, self._device)

        return jax.tree.map(convert, tree)

    def collect(self, items: Sequence[Any]) -> Any:
        """Stack trees on the host, then move them in one piece."""
        return self.from_host(jax.tree.map(lambda *leaves: np.stack(leaves), *items))

    def to_host(self, tree: Any) -> Any:
        """Turn every leaf into a NumPy array."""
        return jax.tree.map(np.asarray, tree)

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """Enable 64-bit numbers within the context if ``dtype`` needs them."""
        context: AbstractContextManager[None] = jax.enable_x64("64" in dtype)
        return context


def _root(square: Any, leaves: list[Any]) -> Any:
    return jnp.sqrt(square)


def _scaled_norm(square: Any, leaves: list[Any]) -> Any:
    largest = jnp.stack([jnp.max(jnp.abs(a), initial=0.0) for a in leaves]).max()
    usable = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    total = sum((jnp.sum((a / usable) ** 2) for a in leaves), jnp.zeros_like(square))
    return jnp.where(usable == largest, largest * jnp.sqrt(total), largest).astype(square.dtype)


def _widen(leaf: Any) -> Any:
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _find_device(spelling: str) -> Any:
    platform, _, index = spelling.partition(":")
    try:
        return jax.devices(platform)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError) as error:
        raise SettingError(
            f"JaxBackend(device={spelling!r}): there is no such device. JAX sees: "
            f"{', '.join(f'{d.platform}:{d.id}' for d in jax.devices())}."
        ) from error
