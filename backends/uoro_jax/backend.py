"""The vector algebra, loops and random draws of JAX."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
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
from uoro.arguments import require_choice, require_seed
from uoro.backend import Distribution
from uoro.derivatives.choosing import Route, Seen
from uoro.derivatives.differenced import by_differences
from uoro.derivatives.routes import Routed
from uoro.errors import SettingError, StructureError, spelled
from uoro.learning.host_noise import numpy_random_state_kept
from uoro_jax.compiling import Donating, compiler_options
from uoro_jax.dynamics import JaxDynamics
from uoro_jax.factors import factored
from uoro_jax.grams import with_products
from uoro_jax.norms import norms
from uoro_jax.trees import coordinates_of, moving, widen

WRONG = (TypeError, ValueError, OverflowError, RuntimeError, DeprecationWarning)
"""What JAX and NumPy raise where something is of the wrong kind; the last, of a generator."""


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

    def dynamics(
        self, transition: Callable[..., Any], *, has_aux: bool = False, check: bool = True
    ) -> Routed:
        """Make `Dynamics` of a function over any pytree.

        Routes: forward mode; the vjp of the vjp, for models with a `jax.custom_vjp`; differences.
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
            concrete=_concrete,
            observe=_observe,
            rehearse=_rehearse,
            imagine=_imagine,
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
        """Apply a function leaf by leaf, keeping the dtypes of the first tree."""

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
        """Make the zero tangent, shaped ``batch + leaf.shape``."""
        return jax.tree.map(
            lambda leaf: jnp.zeros(batch + jnp.shape(leaf), leaf.dtype), moving(like)
        )

    def combine(self, *terms: tuple[Any, Any]) -> Any:
        """Add up ``scalar * tree``."""
        scalars = [scalar for scalar, _ in terms]

        def add(*leaves: Any) -> Any:
            parts = [s * widen(leaf) for s, leaf in zip(scalars, leaves, strict=True)]
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
        return sum((_product(widen(a), widen(b)) for a, b in pairs), jnp.float32(0))

    def with_norms(self, make: Callable[[], tuple[Any, ...]]) -> tuple[tuple[Any, ...], Any]:
        """Make trees and take their norms, under one guard; those of outer products by factors."""
        trees, pieces = factored(make)
        each = iter(jax.tree.map(lambda leaf: _real(widen(leaf)), pieces))
        return trees, norms([list(islice(each, len(jax.tree.leaves(x)))) for x in trees])

    def with_products(
        self, carried: Any, make: Callable[[], Any]
    ) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
        """Take the inner products of two stacks; of outer products by their factors."""
        return with_products(carried, make)

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
        """Loop by `jax.lax.scan`; within bounds by one compiled loop for all of them."""
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
        """Compile by `jax.jit`, with what `compiler_options` says."""
        if not donate:
            return jax.jit(function, compiler_options=compiler_options())
        return Donating(function)

    def key(self, seed: int) -> jax.Array:
        """Make a typed PRNG key of a seed."""
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
        """Draw with JAX's generator; signs take one random bit each."""
        leaves, structure = jax.tree.flatten(moving(like))
        shapes = [
            (*leaf.shape[:stacked], *batch, *leaf.shape[stacked:], *_pair(leaf)) for leaf in leaves
        ]
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        if not leaves:
            return like
        if distribution == "signs":
            words = jax.random.bits(key, (-(-ends[-1] // 32), 1), jnp.uint32)
            flat = (((words >> jnp.arange(32, dtype=jnp.uint32)) & 1).reshape(-1)) * 2.0 - 1.0
        else:
            real: Any = jnp.finfo
            wide = jnp.promote_types(real(jnp.result_type(*leaves)).dtype, jnp.float32)
            flat = jax.random.normal(key, (ends[-1],), wide)
        starts = [0, *ends[:-1]]
        draws = [
            flat[start:end].reshape(shape)
            for start, end, shape in zip(starts, ends, shapes, strict=True)
        ]
        if distribution == "spherical":
            lead = draws[0].shape[: stacked + len(batch)]
            rows = jnp.concatenate([draw.reshape((*lead, -1)) for draw in draws], -1)
            scale = math.sqrt(rows.shape[-1]) / jnp.linalg.norm(rows, axis=-1)
            draws = [draw * scale.reshape(lead + (1,) * (draw.ndim - len(lead))) for draw in draws]
        return jax.tree.unflatten(
            structure,
            [_of_pairs(draw, leaf) for draw, leaf in zip(draws, leaves, strict=True)],
        )

    def from_host(self, tree: Any, *, dtype: str | None = None) -> Any:
        """Turn numbers into arrays on the device; cast floating leaves if asked to."""
        if dtype is not None:
            require_choice("backend.from_host(tree, dtype=...)", "dtype", dtype, DTYPES)

        def convert(leaf: Any) -> Any:
            array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf))
            if dtype is not None and coordinates_of(array):
                wide = jnp.promote_types(dtype, jnp.complex64)
                array = array.astype(wide if _pair(array) else dtype)
            return array if self._device is None else jax.device_put(array, self._device)

        try:
            return jax.tree.map(convert, tree)
        except jax.errors.JaxRuntimeError:  # Such as want of memory.
            raise
        except WRONG as error:
            raise StructureError(
                f"backend.from_host({spelled(tree)}): {error} Wanted are numbers, or arrays of "
                "them, in dicts, tuples or lists."
            ) from error

    def collect(self, items: Sequence[Any]) -> Any:
        """Stack trees on the host, then move them in one piece."""
        try:
            stack = jax.tree.map(lambda *leaves: np.stack(leaves), *items)
        except WRONG as error:
            raise StructureError(
                f"backend.collect(items): they have not all one structure and shape: {error}"
            ) from error
        return self.from_host(stack)

    def to_host(self, tree: Any) -> Any:
        """Turn every leaf into a NumPy array."""
        return jax.tree.map(_array, tree)

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """Enable 64-bit numbers within the context if ``dtype`` needs them."""
        require_choice("backend.precision(dtype)", "dtype", dtype, DTYPES)
        context: AbstractContextManager[None] = jax.enable_x64("64" in dtype)
        return context


def _product(a: Any, b: Any) -> Any:
    return jnp.sum((jnp.conj(a) * b).real if jnp.iscomplexobj(a) else a * b)


def _real(leaf: Any) -> Any:
    """Lay the coordinates of a leaf out as real numbers."""
    return jnp.stack([leaf.real, leaf.imag]) if jnp.iscomplexobj(leaf) else leaf


def _pair(leaf: Any) -> tuple[int, ...]:
    """Give the axis that real numbers need to stand for a leaf."""
    return (2,) if coordinates_of(leaf) == 2 else ()


def _of_pairs(draw: Any, leaf: Any) -> Any:
    """Make real numbers a leaf of the dtype of another."""
    if _pair(leaf):
        draw = lax.complex(draw[..., 0], draw[..., 1])
    return draw.astype(leaf.dtype)


def _key_like(key: Any, result: Any) -> Any:
    """Make keys of the numbers that they are saved as."""
    if jnp.issubdtype(result.dtype, jax.dtypes.prng_key):
        return result
    return jax.random.wrap_key_data(jnp.asarray(result), impl=jax.random.key_impl(key))


def _array(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


def _concrete(tree: Any) -> bool:
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


@contextmanager
def _observe() -> Iterator[Seen]:
    with numpy_random_state_kept():
        yield Seen([])


@contextmanager
def _imagine(tree: Any) -> Iterator[Any]:
    """Make up a tree of the same shapes: normal numbers, zeros for integers, and keys."""
    generator = np.random.default_rng(0)

    def leaf(traced: Any) -> Any:
        shape, dtype = jnp.shape(traced), jnp.result_type(traced)
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0, impl=jax.random.key_impl(traced)), shape)
        return jnp.asarray(0.5 * generator.normal(size=shape) * bool(coordinates_of(traced)), dtype)

    with jax.ensure_compile_time_eval():
        yield jax.tree.map(leaf, tree)


def _rehearse(function: Callable[..., Any], *arguments: Any) -> None:
    """Trace a function apart, for its errors.

    Forward mode through a `jax.custom_vjp` raises nothing while it is traced: it leaves an
    operation that cannot be lowered.
    """
    if "custom_lin" in _primitives(jax.make_jaxpr(function)(*arguments)):
        raise TypeError("there is no forward mode through a custom_vjp.")


def _primitives(traced: Any) -> set[str]:
    """Name the operations of a trace, and of those within them."""
    names = set[str]()
    for equation in traced.eqns:
        names.add(equation.primitive.name)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(value, "eqns"):
                names |= _primitives(value)
    return names


def _find_device(spelling: str) -> Any:
    platform, _, index = spelling.partition(":") if isinstance(spelling, str) else ("", "", "?")
    try:
        if not (index or "0").isdecimal():
            raise ValueError(index)
        return jax.devices(platform)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError) as error:
        raise SettingError(
            f"JaxBackend(device={spelled(spelling)}): there is no such device. JAX sees: "
            f"{', '.join(f'{d.platform}:{d.id}' for d in jax.devices())}."
        ) from error
