"""Models of JAX's neural network libraries, as transitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from uoro.arguments import require_callable, require_kind
from uoro.errors import MissingFrameworkError, SettingError, StructureError, spelled
from uoro_jax.trees import coordinates_of, is_array


class Model(NamedTuple):
    """A model as the algorithms take it.

    Attributes:
        transition: ``(params, state, (input, target)) -> (next_state, loss)``, for
            ``backend.dynamics``.
        params: What is trained: any optax transformation takes it.
        state: The initial state.
        restore: From params, and a state where the library keeps anything there, to the model.
    """

    transition: Callable[[Any, Any, Any], tuple[Any, Any]]
    params: Any
    state: Any
    restore: Callable[..., Any]


def from_module(module: Any, loss: Callable[[Any, Any], Any], state: Any) -> Model:
    """Take a callable pytree, such as an Equinox module, apart.

    Args:
        module: Called as ``module(input, state)``, it returns ``(output, next_state)``. Its
            floating and complex arrays are the params; all else stays as it is.
        loss: Called as ``loss(output, target)``, it returns a scalar.
        state: The initial state. Integers and PRNG keys in it are carried along.

    Raises:
        SettingError: If the module or the loss cannot be called, or there is nothing to train.
        StructureError: If a leaf of the state is no array.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from uoro_jax import JaxBackend, from_module
        >>> class Model(eqx.Module):
        ...     cell: eqx.nn.GRUCell
        ...     def __call__(self, input, state):
        ...         state = self.cell(input, state)
        ...         return state, state
        >>> model = Model(eqx.nn.GRUCell(2, 4, key=jax.random.key(0)))
        >>> made = from_module(model, lambda y, target: ((y - target) ** 2).mean(), jnp.zeros(4))
        >>> dynamics = JaxBackend().dynamics(made.transition)
    """
    call = f"from_module({type(module).__name__}, loss, state)"
    _require_model(call, "module", module, loss, state)
    params, rest = _split(module)
    if not jax.tree.leaves(params):
        raise SettingError(f"{call}: the module holds no floating array, so nothing is to train.")

    def restore(params: Any) -> Any:
        return jax.tree.map(
            lambda mine, other: other if mine is None else mine,
            params,
            rest,
            is_leaf=lambda leaf: leaf is None,
        )

    def apply(params: Any, given: Any, state: Any) -> Any:
        return restore(params)(given, state)

    return Model(_transition(type(module).__name__, apply, loss), params, state, restore)


def from_apply(
    apply: Callable[[Any, Any, Any], Any],
    loss: Callable[[Any, Any], Any],
    params: Any,
    state: Any,
) -> Model:
    """Take a pure function, such as the ``apply`` of Flax Linen or of Haiku.

    Args:
        apply: Called as ``apply(params, input, state)``, it returns ``(output, next_state)``.
        loss: Called as ``loss(output, target)``, it returns a scalar.
        params: What is trained.
        state: The initial state, of the network and of what a library keeps besides.

    Raises:
        SettingError: If function or loss cannot be called.
        StructureError: If a leaf of params or state is no array.
    """
    _require_model("from_apply(apply, loss, params, state)", "function", apply, loss, state)
    _require_arrays("from_apply(params=...)", params)
    name = getattr(apply, "__name__", "apply")
    return Model(_transition(name, apply, loss), params, state, lambda params: params)


def from_nnx(module: Any, loss: Callable[[Any, Any], Any], state: Any) -> Model:
    """Take a Flax NNX module apart.

    What is not an `nnx.Param`, as running statistics and the streams of random numbers, becomes a
    part of the state: the second of a pair whose first is the network's own.

    Args:
        module: Called as ``module(input, state)``, it returns ``(output, next_state)``.
        loss: Called as ``loss(output, target)``, it returns a scalar.
        state: The network's initial state.

    Raises:
        MissingFrameworkError: If Flax is not installed.
        SettingError: If the module is none of Flax NNX, or the loss cannot be called.
        StructureError: If a leaf of the state is no array.
    """
    try:
        from flax import nnx
    except ModuleNotFoundError as error:
        raise MissingFrameworkError(
            "from_nnx(module, …): the module 'flax' is not installed. Try: pip install flax."
        ) from error
    require_kind("from_nnx(module, …)", "module", module, nnx.Module, "an nnx.Module instance")
    _require_model("from_nnx(module, …)", "module", module, loss, state)
    split: Any = nnx.split
    graph, params, rest = split(module, nnx.Param, ...)

    def restore(params: Any, state: Any = (None, rest)) -> Any:
        return nnx.merge(graph, params, state[1], copy=True)

    def apply(params: Any, given: Any, state: Any) -> Any:
        merged = restore(params, state)
        output, network = merged(given, state[0])
        return output, (network, split(merged, nnx.Param, ...)[2])

    made = _transition(type(module).__name__, apply, loss)
    return Model(made, params, (state, rest), restore)


def _require_model(call: str, what: str, model: Any, loss: Any, state: Any) -> None:
    if isinstance(model, type):
        raise SettingError(f"{call}: the {what} is a class. Make one of it.")
    require_callable(call, what, model, "a callable")
    require_callable(call, "loss", loss, "a function (output, target) -> loss")
    _require_arrays(f"{call.partition('(')[0]}(state=...)", state)


def _require_arrays(call: str, tree: Any) -> None:
    try:
        strangers = [leaf for leaf in jax.tree.leaves(tree) if not is_array(leaf)]
    except (TypeError, ValueError, DeprecationWarning):  # A generator, or keys without an order.
        strangers = [tree]
    if strangers:
        raise StructureError(
            f"{call}: there is {spelled(strangers[0])}, wanted are arrays. Make it one: "
            "jax.numpy.asarray(...)."
        )


def _split(module: Any) -> tuple[Any, Any]:
    """Part the arrays that have coordinates from everything else."""

    def trained(leaf: Any) -> bool:
        return is_array(leaf) and coordinates_of(leaf) > 0

    return (
        jax.tree.map(lambda leaf: leaf if trained(leaf) else None, module),
        jax.tree.map(lambda leaf: None if trained(leaf) else leaf, module),
    )


def _transition(
    name: str, apply: Callable[[Any, Any, Any], Any], loss: Callable[[Any, Any], Any]
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    def transition(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        given, target = inputs
        returned = apply(params, given, state)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise StructureError(
                f"{name}: it returned a {type(returned).__name__}, wanted is a pair "
                "(output, next_state)."
            )
        output, next_state = returned
        return next_state, loss(output, target)

    return transition
