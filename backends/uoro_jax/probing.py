"""Hooks of the model check: concrete or traced, observed, rehearsed, at made-up numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from uoro.derivatives.choosing import Seen
from uoro.learning.host_noise import numpy_random_state_kept
from uoro_jax.trees import coordinates_of


def concrete(tree: Any) -> bool:
    """Return whether no leaf of a tree is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


@contextmanager
def observe() -> Iterator[Seen]:
    """Keep NumPy's global random state while a model runs; nothing else is observed."""
    with numpy_random_state_kept():
        yield Seen([])


@contextmanager
def imagine(tree: Any) -> Iterator[Any]:
    """Build a concrete tree of the same shapes: normal numbers, zeros for integers, and keys."""
    generator = np.random.default_rng(0)

    def leaf(traced: Any) -> Any:
        shape, dtype = jnp.shape(traced), jnp.result_type(traced)
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0, impl=jax.random.key_impl(traced)), shape)
        return jnp.asarray(0.5 * generator.normal(size=shape) * bool(coordinates_of(traced)), dtype)

    with jax.ensure_compile_time_eval():
        yield jax.tree.map(leaf, tree)


def rehearse(function: Callable[..., Any], *arguments: Any) -> None:
    """Trace a function apart, to raise its errors.

    Forward mode through a `jax.custom_vjp` raises nothing while it is traced: the trace holds an
    operation that cannot be lowered.
    """
    if "custom_lin" in _primitives(jax.make_jaxpr(function)(*arguments)):
        raise TypeError("there is no forward mode through a custom_vjp.")


def _primitives(traced: Any) -> set[str]:
    """Return the names of the operations of a trace, nested traces included."""
    names = set[str]()
    for equation in traced.eqns:
        names.add(equation.primitive.name)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(value, "eqns"):
                names |= _primitives(value)
    return names
