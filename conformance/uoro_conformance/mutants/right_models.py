"""Right models that are hard to check: none may be called wrong, and what is open has its reason.

Their numbers live at very different scales, or they start on a kink, or much of them is flat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

N = 3
ITEMS = 4


class Model(NamedTuple):
    """A model and where it starts, as NumPy arrays.

    Attributes:
        transition: ``(xp, params, state, inputs) -> (next_state, loss)``.
        params: θ.
        state: The state before the first item.
        items: Items of the stream.
    """

    transition: Callable[[Any, Any, Any, Any], tuple[Any, Any]]
    params: Any
    state: Any
    items: list[Any]


def _draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


_STREAM = [0.7 * _draw(N, seed=10 + t) for t in range(ITEMS)]
_STILL = [np.zeros(N) for _ in range(ITEMS)]


def _weights(w: float = 1.0, u: float = 1.0, b: float = 1.0) -> dict[str, Any]:
    return {
        "W": 0.5 * w * _draw(N, N),
        "U": u * _draw(N, seed=1),
        "b": 0.3 * b * _draw(N, seed=2),
    }


def _scaled(w: float, u: float, b: float, s: float) -> Callable[..., Any]:
    """Return a tanh recurrence whose params and state are in units of the scales given."""

    def transition(xp: Any, params: Any, state: Any, x: Any) -> Any:
        h = state / s
        h = xp.tanh(params["W"] / w @ h + params["U"] / u * x + params["b"] / b)
        return s * h, xp.sum((h - 0.2) ** 2)

    return transition


def _two_states(big: float, small: float) -> Callable[..., Any]:
    def transition(xp: Any, params: Any, state: Any, x: Any) -> Any:
        u, v = state["big"] / big, state["small"] / small
        one = xp.tanh(params["W"] @ u + params["U"] * x + 0.5 * v)
        other = xp.tanh(params["W"].T @ v + params["b"] + 0.3 * u)
        return {"big": big * one, "small": small * other}, xp.sum((one - other) ** 2)

    return transition


def _wide(xp: Any, params: Any, state: Any, x: Any) -> Any:
    """Run a model whose leaves range from 1e-9 to 1e9."""
    a = xp.tanh(1e9 * params["tiny"] @ state["a"] + 1e-9 * params["huge"] * x + 1e9 * state["b"])
    b = 1e-9 * xp.tanh(params["mid"] * a + 1e-9 * state["c"])
    c = 1e9 * xp.tanh(0.5 * params["mid"] * a + 1e9 * params["tiny"][0])
    loss = xp.sum((a - 0.3) ** 2) + xp.sum(1e9 * b) + xp.sum(1e-9 * c)
    return {"a": a, "b": b, "c": c}, loss


_OF_WIDE = {"tiny": 0.5e-9 * _draw(N, N), "huge": 1e9 * _draw(N), "mid": _draw(N, seed=3)}
_WIDE_START = {"a": 0.1 * _draw(N), "b": 1e-9 * _draw(N, seed=4), "c": 1e9 * _draw(N, seed=5)}
_WIDE_ZERO = {name: np.zeros(N) for name in _WIDE_START}


def _relu(xp: Any, params: Any, state: Any, x: Any) -> Any:
    z = params["W"] @ state + params["U"] * x + params["b"]
    h = xp.where(z > 0, z, 0.0 * z)
    return h, xp.sum((h - 0.2) ** 2)


def _leaky(xp: Any, params: Any, state: Any, x: Any) -> Any:
    z = params["W"] @ state + params["U"] * x + params["b"]
    h = xp.where(z > 0, z, 0.1 * z)
    return h, xp.sum((h - 0.2) ** 2)


def _absolute(xp: Any, params: Any, state: Any, x: Any) -> Any:
    h = xp.tanh(params["W"] @ state + params["U"] * x + params["b"])
    return h, xp.sum(abs(h - params["b"]))


def _clipped(xp: Any, params: Any, state: Any, x: Any) -> Any:
    z = params["W"] @ state + params["U"] * x + params["b"]
    h = xp.where(z > 1.0, 1.0 + 0.0 * z, xp.where(z < -1.0, -1.0 + 0.0 * z, z))
    return h, xp.sum((h - 0.2) ** 2)


def _saturated(xp: Any, params: Any, state: Any, x: Any) -> Any:
    h = xp.tanh(8.0 * (params["W"] @ state + params["U"] * x + params["b"]))
    return h, xp.sum((h - 0.2) ** 2)


def _unused(xp: Any, params: Any, state: Any, x: Any) -> Any:
    h = xp.tanh(params["W"] @ state + params["U"] * x)
    return h, xp.sum((h - 0.2) ** 2) + 0.0 * xp.sum(params["b"])


def _steep(xp: Any, params: Any, state: Any, x: Any) -> Any:
    h = xp.sin(30.0 * (params["W"] @ state) + params["U"] * x + params["b"])
    return h, xp.sum((h - 0.2) ** 2)


def _offset(xp: Any, params: Any, state: Any, x: Any) -> Any:
    h = xp.tanh(params["W"] @ state + params["U"] * x + params["b"])
    return h, 1e6 + xp.sum((h - 0.2) ** 2)


def _product(xp: Any, params: Any, state: Any, x: Any) -> Any:
    h = xp.tanh(params["W"] @ state + params["U"] * x + params["b"])
    return h * state + 0.5 * h, xp.sum(h**2 * state) + xp.sum(h)


def _exponential(xp: Any, params: Any, state: Any, x: Any) -> Any:
    h = xp.exp(-((params["W"] @ state - params["U"] * x) ** 2)) + 0.1 * params["b"]
    return h, xp.sum(h**2)


def _unit(xp: Any, params: Any, state: Any, x: Any) -> Any:
    z = params["W"] @ state + params["U"] * x + params["b"]
    h = z / (xp.sum(z**2) + 1e-3) ** 0.5
    return h, xp.sum((h - 0.2) ** 2)


def _scalars(xp: Any, params: Any, state: Any, x: Any) -> Any:
    h = xp.tanh(params["w"] * state["h"] + params["u"] * x[0] + params["b"] * state["seen"])
    return {"h": h, "seen": 0.9 * state["seen"] + x[1]}, (h - 0.2) ** 2


def _model(transition: Any, params: Any, state: Any, items: Any = _STREAM) -> Model:
    return Model(transition, params, state, list(items))


_S, _ZERO = 0.4 * _draw(N, seed=7), np.zeros(N)
_UV = {"big": 1e6 * _draw(N, seed=8), "small": 1e-6 * _draw(N, seed=9)}
_NUMBERS = {"w": np.array(0.7), "u": np.array(-0.4), "b": np.array(0.2)}

RIGHT_MODELS: dict[str, Model] = {
    "leaves from 1e-9 to 1e9": _model(_wide, _OF_WIDE, _WIDE_START),
    "leaves from 1e-9 to 1e9, zero start": _model(_wide, _OF_WIDE, _WIDE_ZERO),
    "state of 1e-8": _model(_scaled(1, 1, 1, 1e-8), _weights(), 1e-8 * _S),
    "state of 1e-8, zero start": _model(_scaled(1, 1, 1, 1e-8), _weights(), _ZERO),
    "state of 1e8": _model(_scaled(1, 1, 1, 1e8), _weights(), 1e8 * _S),
    "params of 1e8 beside 1e-8": _model(_scaled(1e8, 1e-8, 1, 1), _weights(1e8, 1e-8), _S),
    "params of 1e-8 beside 1e8": _model(
        _scaled(1e-8, 1e8, 1e-4, 1), _weights(1e-8, 1e8, 1e-4), _ZERO
    ),
    "params of 1e-6, state of 1e6": _model(
        _scaled(1e-6, 1e-6, 1e-6, 1e6), _weights(1e-6, 1e-6, 1e-6), 1e6 * _S
    ),
    "states of 1e6 beside 1e-6": _model(_two_states(1e6, 1e-6), _weights(), _UV),
    "states of 1e6 beside 1e-6, zero start": _model(
        _two_states(1e6, 1e-6), _weights(), {name: np.zeros(N) for name in _UV}
    ),
    "a bias of 1e-9": _model(_scaled(1, 1, 1, 1), _weights(b=1e-9), _S),
    "ReLU on its kink": _model(_relu, _weights(b=0.0), _ZERO, _STILL),
    "ReLU on its kink, then driven": _model(_relu, _weights(b=0.0), _ZERO, [_ZERO, *_STREAM[:3]]),
    "ReLU": _model(_relu, _weights(), _S),
    "leaky ReLU on its kink": _model(_leaky, _weights(b=0.0), _ZERO, _STILL),
    "absolute value on its kink": _model(_absolute, _weights(b=0.0), _ZERO, _STILL),
    "hard tanh": _model(_clipped, _weights(), _S),
    "saturated tanh": _model(_saturated, _weights(), _S),
    "a leaf of the params unused": _model(_unused, _weights(), _S),
    "steep sine": _model(_steep, _weights(), _S),
    "a loss of 1e6": _model(_offset, _weights(), _S),
    "products of state and input": _model(_product, _weights(), _S),
    "bells": _model(_exponential, _weights(), _S),
    "a normalised state": _model(_unit, _weights(), _S),
    "scalars": _model(_scalars, _NUMBERS, {"h": np.array(0.3), "seen": np.array(0.0)}),
}
"""From a name to a model, beside the kinds of `cells`. In float32 some are too rough."""
