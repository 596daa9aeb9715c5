"""Models of JAX's neural network libraries, as transitions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from uoro.arguments import mismatch, require_callable
from uoro.deprecation import renamed
from uoro.errors import SettingError, StructureError
from uoro_jax.trees import coordinates_of, is_array, require_arrays


class FunctionalModel(NamedTuple):
    """A model as pure functions of its parameters and its state.

    Attributes:
        transition: Function ``(params, state, (input, target)) -> (next_state, loss)``, or of a
            model without a loss ``(params, state, input) -> (next_state, output)``, for
            `uoro_jax.online` or ``backend.dynamics``.
        params: Parameters to train: a pytree that any optax transformation accepts.
        state: Initial state.
        restore: Function ``(params, state) -> module`` that rebuilds the module. The state may be
            left out, except for running statistics and random streams of a Flax NNX module.
    """

    transition: Callable[[Any, Any, Any], tuple[Any, Any]]
    params: Any
    state: Any
    restore: Callable[..., Any]


def from_module(module: Any, loss: Callable[[Any, Any], Any] | None, state: Any) -> FunctionalModel:
    """Split a module into parameters and a transition: Equinox, Flax NNX, or any callable pytree.

    In an Equinox module or another pytree, the floating and complex arrays are the parameters, and
    all other leaves are constants. In a Flax NNX module, each `nnx.Param` is a parameter. All other
    variables, such as running statistics and random streams, become the second element of the
    state, ``(state, variables)``.

    Args:
        module: Callable ``module(input, state) -> (output, next_state)``.
        loss: Function ``loss(output, target)`` that returns a scalar; ``None`` for a transition
            that returns the output.
        state: Initial state of the network, a pytree of arrays. Integers and PRNG keys in it are
            carried along.

    Raises:
        SettingError: If the module or the loss is not callable, or the module has no parameters.
        StructureError: If a leaf of the state is no array.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from uoro_jax import from_module, online
        >>> class Network(eqx.Module):
        ...     cell: eqx.nn.GRUCell
        ...     def __call__(self, input, state):
        ...         state = self.cell(input, state)
        ...         return state, state
        >>> network = Network(eqx.nn.GRUCell(2, 4, key=jax.random.key(0)))
        >>> model = from_module(network, None, jnp.zeros(4))
        >>> core = online(model.transition)
        >>> carry = core.init(model.params, model.state, item=jnp.ones(2))
        >>> def loss(params, carry, x, target, key):
        ...     carry, output = core(params, carry, x, key)
        ...     return ((output - target) ** 2).mean(), carry
        >>> step = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
        >>> (value, carry), gradient = step(
        ...     model.params, carry, jnp.ones(2), jnp.ones(4), jax.random.key(0))
    """
    call = f"from_module({type(module).__name__}, loss, state)"
    _require_model(call, "module", module, loss, state)
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(module, nnx.Module):
        return _from_nnx(nnx, module, loss, state)
    params, rest = _split(module)
    if not jax.tree.leaves(params):
        hint = "Build the module with its parameters."
        raise SettingError(mismatch(call, "module", "floating arrays to train", "none", hint))

    def restore(params: Any, state: Any = None) -> Any:
        return jax.tree.map(
            lambda mine, other: other if mine is None else mine,
            params,
            rest,
            is_leaf=lambda leaf: leaf is None,
        )

    def apply(params: Any, given: Any, state: Any) -> Any:
        return restore(params)(given, state)

    transition = _transition(type(module).__name__, apply, loss)
    return FunctionalModel(transition, params, state, restore)


def from_apply(
    apply: Callable[[Any, Any, Any], Any],
    loss: Callable[[Any, Any], Any] | None,
    params: Any,
    state: Any,
) -> FunctionalModel:
    """Build a transition from a pure function, such as the ``apply`` of Flax Linen or Haiku.

    Args:
        apply: Function ``apply(params, input, state) -> (output, next_state)``.
        loss: Function ``loss(output, target)`` that returns a scalar; ``None`` for a transition
            that returns the output.
        params: Parameters to train, a pytree of arrays.
        state: Initial state of the network, together with the other state of the library.

    Raises:
        SettingError: If the function or the loss is not callable.
        StructureError: If a leaf of params or state is no array.
    """
    _require_model("from_apply(apply, loss, params, state)", "function", apply, loss, state)
    require_arrays("from_apply(params=...)", params)
    transition = _transition(getattr(apply, "__name__", "apply"), apply, loss)
    return FunctionalModel(transition, params, state, lambda params, state=None: params)


def from_nnx(module: Any, loss: Callable[[Any, Any], Any] | None, state: Any) -> FunctionalModel:
    """Call `from_module`; a deprecated spelling."""
    renamed("uoro_jax.from_nnx(module, loss, state)", "from_module(module, loss, state)")
    return from_module(module, loss, state)


def _from_nnx(
    nnx: Any, module: Any, loss: Callable[[Any, Any], Any] | None, state: Any
) -> FunctionalModel:
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def restore(params: Any, state: Any = (None, rest)) -> Any:
        return nnx.merge(graph, params, state[1], copy=True)

    def apply(params: Any, given: Any, state: Any) -> Any:
        merged = restore(params, state)
        output, network = merged(given, state[0])
        return output, (network, nnx.split(merged, nnx.Param, ...)[2])

    transition = _transition(type(module).__name__, apply, loss)
    return FunctionalModel(transition, params, (state, rest), restore)


def _require_model(call: str, what: str, model: Any, loss: Any, state: Any) -> None:
    if isinstance(model, type):
        got, hint = f"the class {model.__name__}", f"Build an instance: {model.__name__}(...)."
        raise SettingError(mismatch(call, what, "a callable instance", got, hint))
    require_callable(call, what, model, "a callable")
    if loss is not None:
        require_callable(call, "loss", loss, "a function (output, target) -> loss, or None")
    require_arrays(f"{call.partition('(')[0]}(state=...)", state)


def _split(module: Any) -> tuple[Any, Any]:
    """Split a pytree into the arrays that have coordinates and all other leaves."""

    def trained(leaf: Any) -> bool:
        return is_array(leaf) and coordinates_of(leaf) > 0

    return (
        jax.tree.map(lambda leaf: leaf if trained(leaf) else None, module),
        jax.tree.map(lambda leaf: None if trained(leaf) else leaf, module),
    )


def _transition(
    name: str, apply: Callable[[Any, Any, Any], Any], loss: Callable[[Any, Any], Any] | None
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    def transition(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        given, target = (inputs, None) if loss is None else inputs
        returned = apply(params, given, state)
        if not isinstance(returned, tuple) or len(returned) != 2:
            got = f"a {type(returned).__name__}"
            raise StructureError(mismatch(name, "result", "a pair (output, next_state)", got))
        output, next_state = returned
        return next_state, output if loss is None else loss(output, target)

    return transition
