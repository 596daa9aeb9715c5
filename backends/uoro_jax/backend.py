"""JAX as a `uoro.Backend`: vector algebra on pytrees, and compiled loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from uoro.algebra import DTYPES
from uoro.arguments import mismatch, require_choice, require_seed
from uoro.backend import Distribution
from uoro.derivatives.choosing import Route
from uoro.derivatives.differenced import by_differences
from uoro.derivatives.routes import Routed
from uoro.errors import StructureError, spelled
from uoro_jax.compiling import Donating, compile_fast, compiler_options
from uoro_jax.devices import find_device, spell_device
from uoro_jax.draws import draw, pair_axis
from uoro_jax.dynamics import JaxDynamics
from uoro_jax.factors import factored
from uoro_jax.grams import with_products
from uoro_jax.immediate import factors
from uoro_jax.norms import norms
from uoro_jax.probing import concrete, imagine, observe, rehearse
from uoro_jax.trees import coordinates_of, moving, widen

WRONG = (TypeError, ValueError, OverflowError, RuntimeError, DeprecationWarning)
"""Errors that JAX and NumPy raise for a value of the wrong kind; the last one, for a generator."""


class JaxBackend:
    """JAX arrays on one device; trees are pytrees.

    No global flag is set: 64-bit numbers exist if the user enabled them, or within `precision`.

    Args:
        device: Platform, with an optional index: ``"cpu"``, ``"gpu"``, ``"gpu:1"``. JAX's default
            device if ``None``.

    Raises:
        SettingError: If JAX has no such device.
    """

    name = "jax"
    compiled = True
    xp = jnp
    lacks: Mapping[str, str] = MappingProxyType({})

    def __init__(self, *, device: str | None = None) -> None:
        self._device = None if device is None else find_device(device)

    @property
    def device(self) -> str:
        """The device, as JAX spells it."""
        return spell_device(self._device or jax.devices()[0])

    def dynamics(
        self, transition: Callable[..., Any], *, has_aux: bool = False, check: bool = True
    ) -> Routed:
        """Build `Dynamics` from a function of pytrees.

        Autodiff modes, in order of preference: forward mode; the VJP of the VJP, for models with
        a `jax.custom_vjp`; finite differences.
        """
        forward = JaxDynamics(self, transition, has_aux)
        routes = (
            Route("forward mode", forward),
            Route("double vjp", JaxDynamics(self, transition, has_aux, twice=True)),
            by_differences(forward),
        )
        return Routed(
            routes,
            check=check,
            concrete=concrete,
            observe=observe,
            rehearse=rehearse,
            imagine=imagine,
        )

    def named_leaves(self, tree: Any) -> list[tuple[str, Any]]:
        """List the leaves with their paths."""
        return [
            (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
        ]

    def parts(self, leaf: Any) -> int:
        """Count the coordinates of an entry."""
        return coordinates_of(leaf)

    def map(self, function: Callable[..., Any], tree: Any, *others: Any) -> Any:
        """Apply a function leaf by leaf, and keep the dtypes of the first tree."""

        def apply(leaf: Any, *rest: Any) -> Any:
            result = function(leaf, *rest)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return _key_like(leaf, result)
            return jnp.asarray(result).astype(leaf.dtype)

        try:
            return jax.tree.map(apply, tree, *others)
        except ValueError as error:
            raise StructureError(f"backend.map(function, *trees): {error}") from error

    def zeros(self, like: Any, *, batch: tuple[int, ...] = ()) -> Any:
        """Build the zero tangent, shaped ``batch + leaf.shape``."""

        def zero(leaf: Any) -> Any:
            shape = batch + jnp.shape(leaf)
            # Outside a trace `jnp.zeros` compiles a program for each shape.
            traced = isinstance(leaf, Tracer)
            return (
                jnp.zeros(shape, leaf.dtype) if traced else jnp.array(np.zeros(shape, leaf.dtype))
            )

        return jax.tree.map(zero, moving(like))

    def combine(self, *terms: tuple[Any, Any]) -> Any:
        """Compute the sum of ``scalar * tree``."""
        scalars = [scalar for scalar, _ in terms]

        def add(*leaves: Any) -> Any:
            parts = [s * widen(leaf) for s, leaf in zip(scalars, leaves, strict=True)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            return total

        return self.map(add, *(tree for _, tree in terms))

    def matmul(self, weights: Any, matrix: Any) -> Any:
        """Multiply; JAX promotes the dtypes."""
        return weights @ matrix

    def inner(self, x: Any, y: Any) -> Any:
        """Sum the products, in at least float32."""
        pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
        return sum((_product(widen(a), widen(b)) for a, b in pairs), jnp.float32(0))

    def with_norms(self, make: Callable[[], tuple[Any, ...]]) -> tuple[tuple[Any, ...], Any]:
        """Build trees and compute their norms under one guard, outer products by their factors."""
        trees, pieces = factored(make)
        each = iter(jax.tree.map(lambda leaf: _real(widen(leaf)), pieces))
        return trees, norms([list(islice(each, len(jax.tree.leaves(x)))) for x in trees])

    def with_products(
        self, carried: Any, make: Callable[[], Any]
    ) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
        """Compute the inner products of two stacks, outer products by their factors."""
        return with_products(carried, make)

    def factors(self, make: Callable[[], Any]) -> tuple[Any, list[Any]]:
        """Find outer products in the trace, products with a row of a table among them."""
        return factors(make)

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
        bounds: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]:
        """Loop by `jax.lax.scan`; with bounds, by one compiled loop that serves all bounds."""
        if bounds is None:
            return lax.scan(body, carry, items, reverse=reverse)
        first, end = bounds
        output = jax.eval_shape(body, carry, jax.tree.map(lambda leaf: leaf[0], items))[1]
        count = jax.tree.leaves(items)[0].shape[0]
        zeros = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), output)

        def step(i: Any, held: tuple[Any, Any]) -> tuple[Any, Any]:
            index = first + end - 1 - i if reverse else i
            carry, outputs = held
            item = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, index, 0, False), items)
            carry, output = body(carry, item)
            put = partial(lax.dynamic_update_index_in_dim, index=index, axis=0)
            return carry, jax.tree.map(put, outputs, output)

        looped: tuple[Any, Any] = lax.fori_loop(first, end, step, (carry, zeros))
        return looped

    def compile(self, function: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
        """Compile by `jax.jit`, with the options of `compiler_options`."""
        if not donate:
            return jax.jit(function, compiler_options=compiler_options())
        return Donating(function)

    def drop_programs(self) -> None:
        """Drop all programs that JAX keeps, this library's and the user's; see `DropsPrograms`."""
        jax.clear_caches()  # type: ignore[no-untyped-call]  # JAX's own has no types

    def compile_fast(self) -> None:
        """Compile fast from now on, if nothing has been compiled; see `compiling.compile_fast`."""
        compile_fast()

    def key(self, seed: int) -> jax.Array:
        """Build a typed PRNG key from a seed."""
        if not isinstance(seed, Tracer):
            seed = require_seed("JaxBackend.key(seed)", seed)
        return jax.random.key(seed)

    def fold(self, key: jax.Array, number: Any) -> jax.Array:
        """Derive the key numbered ``number``."""
        return jax.random.fold_in(key, number)

    def random(
        self,
        key: jax.Array,
        like: Any,
        distribution: Distribution,
        batch: tuple[int, ...] = (),
        stacked: int = 0,
    ) -> Any:
        """Draw with JAX's generator; a sign costs one random bit."""
        return draw(key, like, distribution, batch, stacked)

    def from_host(self, tree: Any, *, dtype: str | None = None) -> Any:
        """Convert numbers to arrays on the device, and cast floating leaves to ``dtype``."""
        if dtype is not None:
            require_choice("backend.from_host(tree, dtype=...)", "dtype", dtype, DTYPES)

        def convert(leaf: Any) -> Any:
            array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
            if dtype is not None and coordinates_of(array):
                wide = jnp.promote_types(dtype, jnp.complex64)
                narrow = array.astype(jnp.result_type(array))
                array = narrow.astype(wide if pair_axis(array) else dtype)
            if not isinstance(array, jax.Array):
                array = jnp.array(array)  # `asarray` compiles a copy for each shape.
            return array if self._device is None else jax.device_put(array, self._device)

        try:
            return jax.tree.map(convert, tree)
        except jax.errors.JaxRuntimeError:  # For example, out of memory.
            raise
        except WRONG as error:
            expected = "numbers, or arrays of numbers, in dicts, tuples or lists"
            message = mismatch("backend.from_host(tree)", "", expected, spelled(tree), str(error))
            raise StructureError(message) from error

    def collect(self, items: Sequence[Any]) -> Any:
        """Stack trees on the host, and move the stack at once."""
        try:
            stack = jax.tree.map(lambda *leaves: np.stack(leaves), *items)
        except WRONG as error:
            raise StructureError(
                f"backend.collect(items): expected items of one structure and shape. {error}"
            ) from error
        return self.from_host(stack)

    def to_host(self, tree: Any) -> Any:
        """Convert every leaf to a NumPy array; PRNG keys to their integers."""
        return jax.tree.map(_array, tree)

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """Enable 64-bit numbers within the context if ``dtype`` needs them."""
        require_choice("backend.precision(dtype)", "dtype", dtype, DTYPES)
        context: AbstractContextManager[None] = jax.enable_x64("64" in dtype)
        return context


def _product(a: Any, b: Any) -> Any:
    return jnp.sum((jnp.conj(a) * b).real if jnp.iscomplexobj(a) else a * b)


def _real(leaf: Any) -> Any:
    """Return the coordinates of a leaf as real numbers."""
    return jnp.stack([leaf.real, leaf.imag]) if jnp.iscomplexobj(leaf) else leaf


def _key_like(key: Any, result: Any) -> Any:
    """Build keys from the integers that `to_host` converts keys to."""
    if jnp.issubdtype(result.dtype, jax.dtypes.prng_key):
        return result
    return jax.random.wrap_key_data(jnp.asarray(result), impl=jax.random.key_impl(key))


def _array(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)
