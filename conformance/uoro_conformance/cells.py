"""Small recurrent systems for the suite to draw from, written once for every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.models import ELSTM, GRU, LRU, LSTM, RTU, InfluenceBalancing, MinGRU, Tanh
from uoro.models.recurrent import Cell

WIDTH = 2
"""How many numbers an item's input and its target have."""


@dataclass(frozen=True)
class Kind:
    """A kind of system.

    Attributes:
        init: ``(generator, n) -> (params, state)``, NumPy arrays in nested dicts.
        transition: ``(xp, params, state, inputs) -> (next_state, loss)``.
        activity: ``(state) ->`` the squashed values whose ``1 - h²`` scales the derivatives, for
            the guard against saturation; empty for a linear kind.
    """

    init: Callable[[np.random.Generator, int], tuple[Any, Any]]
    transition: Callable[[Any, Any, Any, Any], tuple[Any, Any]]
    activity: Callable[[Any], Any]


def _matrix(generator: np.random.Generator, n: int) -> Any:
    """Draw a matrix whose spectral radius is uniform in [0.3, 1.3]."""
    matrix = generator.normal(size=(n, n))
    radius = float(np.abs(np.linalg.eigvals(matrix)).max())
    return matrix * (generator.uniform(0.3, 1.3) / max(radius, 1e-3))


def _loss(xp: Any, readout: Any, signal: Any, inputs: Any) -> Any:
    return 0.5 * xp.sum((readout @ signal - inputs["y"]) ** 2)


def _readout(generator: np.random.Generator, n: int) -> Any:
    return generator.normal(size=(WIDTH, n)) / np.sqrt(n)


def _linear() -> Kind:
    def init(generator: np.random.Generator, n: int) -> tuple[Any, Any]:
        params = {
            "A": _matrix(generator, n),
            "B": generator.normal(size=(n, WIDTH)),
            "C": _readout(generator, n),
        }
        return params, generator.normal(size=n)

    def transition(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        state = params["A"] @ state + params["B"] @ inputs["x"]
        return state, _loss(xp, params["C"], state, inputs)

    return Kind(init, transition, lambda state: np.zeros(0))


def _tied() -> Kind:
    """Scalars shared by all units: every parameter acts on every unit."""

    def init(generator: np.random.Generator, n: int) -> tuple[Any, Any]:
        names = ("keep", "mix", "gain")
        return {name: generator.uniform(-0.9, 0.9, ()) for name in names}, generator.normal(size=n)

    def transition(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        turned = xp.concatenate([state[1:], state[:1]])
        drive = inputs["x"][0] + inputs["x"][1] * xp.cos(state)
        state = xp.tanh(params["keep"] * state + params["mix"] * turned + params["gain"] * drive)
        return state, 0.5 * xp.sum((state - inputs["y"][0]) ** 2)

    return Kind(init, transition, lambda state: state)


def _balancing() -> Kind:
    def init(generator: np.random.Generator, n: int) -> tuple[Any, Any]:
        return {"theta": generator.normal(size=())}, generator.normal(size=n)

    def transition(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        n = int(state.shape[0])
        return InfluenceBalancing(n, (n + 1) // 2).transition(xp, params, state, inputs)

    return Kind(init, transition, lambda state: np.zeros(0))


def _leaky() -> Kind:
    def init(generator: np.random.Generator, n: int) -> tuple[Any, Any]:
        params = {
            "W": _matrix(generator, n),
            "B": generator.normal(size=(n, WIDTH)),
            "leak": generator.uniform(0.1, 0.9, n),
            "C": _readout(generator, n),
        }
        return params, generator.uniform(-0.5, 0.5, n)

    def transition(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        fresh = xp.tanh(params["W"] @ state + params["B"] @ inputs["x"])
        state = state + params["leak"] * (fresh - state)
        return state, _loss(xp, params["C"], state, inputs)

    return Kind(init, transition, lambda state: state)


def _post() -> Kind:
    """The state is the squashed value: h' = tanh(W h + B x + b)."""

    def init(generator: np.random.Generator, n: int) -> tuple[Any, Any]:
        params = {
            "W": _matrix(generator, n),
            "B": generator.normal(size=(n, WIDTH)) * 0.5,
            "b": generator.normal(size=n) * 0.3,
            "C": _readout(generator, n),
        }
        return params, generator.uniform(-0.5, 0.5, n)

    def transition(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        state = xp.tanh(params["W"] @ state + params["B"] @ inputs["x"] + params["b"])
        return state, _loss(xp, params["C"], state, inputs)

    return Kind(init, transition, lambda state: state)


def _leaves() -> Kind:
    """A state of three leaves, one of them a scalar, that act on one another."""

    def init(generator: np.random.Generator, n: int) -> tuple[Any, Any]:
        params = {
            "fast": {"W": _matrix(generator, n), "B": generator.normal(size=(n, WIDTH)) * 0.5},
            "slow": generator.uniform(0.1, 0.9, ()),
            "C": _readout(generator, n),
        }
        state = {
            "fast": generator.uniform(-0.5, 0.5, n),
            "mean": generator.normal(size=()),
            "trace": generator.normal(size=(1, n)),
        }
        return params, state

    def transition(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        fast = xp.tanh(
            params["fast"]["W"] @ state["fast"]
            + params["fast"]["B"] @ inputs["x"]
            + 0.3 * state["trace"][0]
            - 0.2 * state["mean"]
        )
        mean = params["slow"] * state["mean"] + xp.sum(fast) * 0.3
        trace = 0.6 * state["trace"] + params["slow"] * xp.reshape(state["fast"], (1, -1))
        signal = fast + trace[0] * mean
        next_state = {"fast": fast, "mean": mean, "trace": trace}
        return next_state, _loss(xp, params["C"], signal, inputs)

    return Kind(init, transition, lambda state: state["fast"])


def _layers(make: Callable[[int], tuple[Cell, ...]], activity: Callable[[Any], Any]) -> Kind:
    """Layers of the library's own models, reading vectors."""

    def init(generator: np.random.Generator, n: int) -> tuple[Any, Any]:
        params: dict[str, Any] = {}
        state, fan_in = {}, WIDTH
        for i, cell in enumerate(make(n)):
            params[str(i)] = cell.init(generator, fan_in, symbols=False)
            state[str(i)] = {
                name: generator.uniform(-0.5, 0.5, np.shape(leaf))
                for name, leaf in cell.start().items()
            }
            fan_in = cell.units
        params["C"] = _readout(generator, fan_in)
        return params, state

    def transition(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        signal, next_state = inputs["x"], {}
        n = int(params["C"].shape[1])
        for i, cell in enumerate(make(n)):
            name = str(i)
            next_state[name], signal = cell.step(
                xp, params[name], state[name], signal, symbols=False
            )
        return next_state, _loss(xp, params["C"], signal, inputs)

    return Kind(init, transition, activity)


KINDS: dict[str, Kind] = {
    "linear": _linear(),
    "tied": _tied(),
    "balancing": _balancing(),
    "tanh": _post(),
    "preactivation": _layers(lambda n: (Tanh(n),), lambda state: np.tanh(state["0"]["h"])),
    "leaky": _leaky(),
    "gru": _layers(lambda n: (GRU(n),), lambda state: state["0"]["h"]),
    "lstm": _layers(lambda n: (LSTM(n),), lambda state: np.tanh(state["0"]["c"])),
    "stack": _layers(lambda n: (GRU(n), Tanh(n)), lambda state: state["0"]["h"]),
    "leaves": _leaves(),
}
"""The simplest first: that is what a failing example shrinks to."""


def _outputs() -> Kind:
    """A state of two leaves, and an output of three: a dictionary, a tuple in it, and a scalar."""

    def init(generator: np.random.Generator, n: int) -> tuple[Any, Any]:
        params = {
            "W": _matrix(generator, n),
            "B": generator.normal(size=(n, WIDTH)) * 0.5,
            "C": _readout(generator, n),
            "value": generator.normal(size=n),
        }
        state = {"h": generator.uniform(-0.5, 0.5, n), "trace": generator.normal(size=n)}
        return params, state

    def transition(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        h = xp.tanh(params["W"] @ state["h"] + params["B"] @ inputs["x"] + 0.3 * state["trace"])
        trace = 0.7 * state["trace"] + state["h"] * params["value"]
        output = {
            "logits": params["C"] @ (h + 0.2 * trace) - inputs["y"],
            "rest": (xp.sum(params["value"] * h) ** 2, h * state["trace"]),
        }
        return {"h": h, "trace": trace}, output

    return Kind(init, transition, lambda state: state["h"])


PREDICTORS: dict[str, Kind] = {"outputs": _outputs()}
"""Systems that return an output that is no loss."""


def _flat(state: Any) -> Any:
    """Return nothing: no unit saturates."""
    return np.zeros(0)


LOCAL: dict[str, Kind] = {
    "lru": _layers(lambda n: (LRU(n),), _flat),
    "rtu": _layers(lambda n: (RTU(n),), _flat),
    "mingru": _layers(lambda n: (MinGRU(n),), _flat),
    "elstm": _layers(lambda n: (ELSTM(n),), _flat),
}
"""Systems whose units do not mix."""

EVERY_KIND = KINDS | PREDICTORS | LOCAL
