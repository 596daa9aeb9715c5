"""Models as JAX's users have them: plain functions, Equinox, Flax and Haiku."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
from flax import linen, nnx
from uoro_jax import FunctionalModel, from_apply, from_module

IN, UNITS, OUT = 3, 4, 2


@dataclass(frozen=True)
class JaxModel:
    """A user's model.

    Attributes:
        name: In the table.
        make: Makes it, in the present default dtype.
        outcome: ``"unbiased"``, or what is said of a model that has no true derivative.
    """

    name: str
    make: Callable[[], FunctionalModel]
    outcome: str = "unbiased"


def squared(output: Any, target: Any) -> Any:
    """Give the mean squared error."""
    return ((output - target) ** 2).mean()


def draw(seed: int, *shape: int) -> Any:
    """Draw normal numbers in the default dtype."""
    return jax.random.normal(jax.random.key(seed), shape, jnp.zeros(()).dtype)


def _plain() -> FunctionalModel:
    def apply(params: Any, given: Any, state: Any) -> Any:
        state = jnp.tanh(params["W"] @ state + params["U"] @ given)
        return params["C"] @ state, state

    shapes = {"W": (UNITS, UNITS), "U": (UNITS, IN), "C": (OUT, UNITS)}
    params = {name: 0.5 * draw(i, *shape) for i, (name, shape) in enumerate(shapes.items())}
    return from_apply(apply, squared, params, jnp.zeros(UNITS))


class EquinoxModel(eqx.Module):
    """A cell of Equinox and a readout."""

    cell: Any
    readout: eqx.nn.Linear

    def __call__(self, input: Any, state: Any) -> tuple[Any, Any]:
        """Take one step."""
        state = self.cell(input, state)
        return self.readout(state[0] if isinstance(state, tuple) else state), state


def _equinox(cell: Any, state: Callable[[], Any]) -> Callable[[], FunctionalModel]:
    def make() -> FunctionalModel:
        keys = jax.random.split(jax.random.key(0))
        readout = eqx.nn.Linear(UNITS, OUT, key=keys[1])
        return from_module(EquinoxModel(cell(IN, UNITS, key=keys[0]), readout), squared, state())

    return make


class EquinoxDropout(eqx.Module):
    """Dropout, whose key is a part of the state."""

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __call__(self, input: Any, state: Any) -> tuple[Any, Any]:
        """Take one step."""
        key, now = jax.random.split(state["key"])
        hidden = self.cell(self.dropout(input, key=now), state["hidden"])
        return self.readout(hidden), {"key": key, "hidden": hidden, "steps": state["steps"] + 1}


def _equinox_dropout() -> FunctionalModel:
    keys = jax.random.split(jax.random.key(0))
    model = EquinoxDropout(
        eqx.nn.GRUCell(IN, UNITS, key=keys[0]),
        eqx.nn.Linear(UNITS, OUT, key=keys[1]),
        eqx.nn.Dropout(0.5),
    )
    state = {"key": jax.random.key(7), "hidden": jnp.zeros(UNITS), "steps": jnp.array(0)}
    return from_module(model, squared, state)


class NnxModel(nnx.Module):
    """A cell of Flax NNX, dropout, and a readout."""

    def __init__(self, cell: Any, rngs: Any, dropout: float = 0.0) -> None:
        kind: Any = {"param_dtype": jnp.zeros(()).dtype, "dtype": jnp.zeros(()).dtype}
        self.cell = cell(IN, UNITS, rngs=rngs, **kind)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.readout = nnx.Linear(UNITS, OUT, rngs=rngs, **kind)

    def __call__(self, input: Any, state: Any) -> tuple[Any, Any]:
        """Take one step."""
        state, output = self.cell(state, self.dropout(input))
        return self.readout(output), state


def _nnx(
    cell: Any, state: Callable[[], Any], dropout: float = 0.0
) -> Callable[[], FunctionalModel]:
    return lambda: from_module(NnxModel(cell, nnx.Rngs(0), dropout), squared, state())


def _linen() -> FunctionalModel:
    class Network(linen.Module):
        @linen.compact
        def __call__(self, input: Any, state: Any) -> tuple[Any, Any]:
            kind: Any = {"param_dtype": jnp.zeros(()).dtype, "dtype": jnp.zeros(()).dtype}
            state, output = linen.GRUCell(UNITS, **kind)(state, input)
            return linen.Dense(OUT, **kind)(output), state

    network, state = Network(), jnp.zeros(UNITS)
    variables: Any = network.init(jax.random.key(0), jnp.zeros(IN), state)
    return from_apply(network.apply, squared, variables, state)


def _haiku() -> FunctionalModel:
    def network(input: Any, state: Any) -> tuple[Any, Any]:
        output, state = hk.GRU(UNITS)(input, state)
        calls = hk.get_state("calls", (), jnp.int32, init=jnp.zeros)
        hk.set_state("calls", calls + 1)
        return hk.Linear(OUT)(output), state

    transformed = hk.transform_with_state(network)
    start = jnp.zeros(UNITS)
    params, kept = transformed.init(jax.random.key(0), jnp.zeros(IN), start)

    def apply(params: Any, given: Any, state: Any) -> Any:
        hidden, kept = state
        (output, hidden), kept = transformed.apply(params, kept, None, given, hidden)
        return output, (hidden, kept)

    return from_apply(apply, squared, params, (start, kept))


@jax.custom_vjp
def _clipped(x: Any) -> Any:
    return jnp.tanh(x)


def _clipped_forward(x: Any) -> Any:
    y = jnp.tanh(x)
    return y, y


def _clipped_backward(y: Any, gradient: Any) -> Any:
    return (gradient * (1 - y**2),)


_clipped.defvjp(_clipped_forward, _clipped_backward)


def _custom_vjp() -> FunctionalModel:
    def apply(params: Any, given: Any, state: Any) -> Any:
        state = _clipped(params["W"] @ state + params["U"] @ given)
        return params["C"] @ state, state

    return _plain()._replace(transition=from_apply(apply, squared, {}, ()).transition)


@jax.custom_vjp
def _spike(x: Any) -> Any:
    return (x > 0).astype(x.dtype)


def _spike_forward(x: Any) -> Any:
    return _spike(x), x


def _spike_backward(x: Any, gradient: Any) -> Any:
    return (gradient / (1 + 5 * jnp.abs(x)) ** 2,)


_spike.defvjp(_spike_forward, _spike_backward)


def _spiking() -> FunctionalModel:
    def apply(params: Any, given: Any, state: Any) -> Any:
        voltage = 0.9 * state["voltage"] + params["U"] @ given + params["W"] @ state["spikes"]
        spikes = _spike(voltage - 1.0)
        after = {"voltage": voltage - jax.lax.stop_gradient(spikes), "spikes": spikes}
        return params["C"] @ spikes, after

    start = {"voltage": jnp.full(UNITS, 0.7), "spikes": jnp.zeros(UNITS)}
    return from_apply(apply, squared, _plain().params, start)


def _nested() -> FunctionalModel:
    def apply(params: Any, given: Any, state: Any) -> Any:
        low = jnp.tanh(params["U"] @ given + 0.5 * state["low"])
        fast, slow = state["high"]["fast"], state["high"]["slow"]
        fast = jnp.tanh(params["W"] @ low + fast)
        slow = slow + 0.1 * (fast - slow)
        return params["C"] @ slow, {"low": low, "high": {"fast": fast, "slow": slow}}

    zero = jnp.zeros(UNITS)
    state = {"low": zero, "high": {"fast": zero, "slow": zero}}
    return from_apply(apply, squared, _plain().params, state)


def _ode() -> FunctionalModel:
    def apply(params: Any, given: Any, state: Any) -> Any:
        def field(state: Any) -> Any:
            return jnp.tanh(params["W"] @ state + params["U"] @ given) - state

        one = field(state)
        two = field(state + 0.05 * one)
        return params["C"] @ state, state + 0.1 * two

    return from_apply(apply, squared, _plain().params, jnp.zeros(UNITS))


def _complex() -> FunctionalModel:
    def apply(params: Any, given: Any, state: Any) -> Any:
        turn = jnp.exp(-jnp.exp(params["decay"]) + 1j * params["angle"])
        state = turn * state + params["B"] @ given
        return (params["C"] @ state).real, state

    params = {
        "decay": draw(0, UNITS),
        "angle": draw(1, UNITS),
        "B": jax.lax.complex(draw(2, UNITS, IN), draw(3, UNITS, IN)),
        "C": jax.lax.complex(draw(4, OUT, UNITS), draw(5, OUT, UNITS)),
    }
    zero = jnp.zeros(UNITS)
    return from_apply(apply, squared, params, jax.lax.complex(zero, zero))


def _hidden() -> Any:
    return jnp.zeros(UNITS)


def _carries() -> Any:
    return jnp.zeros(UNITS), jnp.zeros(UNITS)


JAX_MODELS = (
    JaxModel("a plain function", _plain),
    JaxModel("Equinox GRUCell", _equinox(eqx.nn.GRUCell, _hidden)),
    JaxModel("Equinox LSTMCell, two carries", _equinox(eqx.nn.LSTMCell, _carries)),
    JaxModel("Equinox, dropout by a key in the state", _equinox_dropout),
    JaxModel("Flax NNX GRUCell", _nnx(nnx.GRUCell, _hidden)),
    JaxModel("Flax NNX LSTMCell, two carries", _nnx(nnx.LSTMCell, _carries)),
    JaxModel("Flax NNX, dropout by its Rngs", _nnx(nnx.GRUCell, _hidden, 0.5)),
    JaxModel("Flax Linen GRUCell", _linen),
    JaxModel("Haiku GRU, with a state of its own", _haiku),
    JaxModel("custom_vjp", _custom_vjp),
    JaxModel("spikes by custom_vjp", _spiking, "surrogate"),
    JaxModel("nested dicts", _nested),
    JaxModel("ODE step", _ode),
    JaxModel("linear recurrent unit, complex state and params", _complex),
)
