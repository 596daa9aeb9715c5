"""Models as users of NumPy-autograd have them: functions over trees of arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import autograd.numpy
import numpy as np
from autograd.extend import defvjp, primitive

anp: Any = autograd.numpy  # it makes its functions at run time, unseen by type checkers

IN, UNITS, OUT = 3, 4, 2


@dataclass(frozen=True)
class AutogradModel:
    """A user's model.

    Attributes:
        name: In the table.
        transition: ``(params, state, (input, target)) -> (next_state, loss)``.
        params: In float64.
        state: In float64 or complex128, and integers.
        outcome: As for the other frameworks.
    """

    name: str
    transition: Callable[[Any, Any, Any], tuple[Any, Any]]
    params: Any
    state: Any
    outcome: str = "unbiased"


def draw(seed: int, *shape: int) -> Any:
    """Draw normal numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def _loss(output: Any, target: Any) -> Any:
    return anp.mean((output - target) ** 2)


def _tanh(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    state = anp.tanh(params["W"] @ state + params["U"] @ inputs[0])
    return state, _loss(params["C"] @ state, inputs[1])


def _nested(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    low = anp.tanh(params["U"] @ inputs[0] + 0.5 * state["low"])
    fast = anp.tanh(params["W"] @ low + state["high"][0])
    slow = state["high"][1] + 0.1 * (fast - state["high"][1])
    return {"low": low, "high": (fast, slow)}, _loss(params["C"] @ slow, inputs[1])


def _counting(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    hidden = anp.tanh(params["W"] @ state["hidden"] + params["U"] @ inputs[0])
    kept = hidden if state["clock"] % 2 == 0 else state["hidden"]
    after = {"clock": state["clock"] + 1, "hidden": kept}
    return after, _loss(params["C"] @ hidden, inputs[1])


def _ode(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    slope = anp.tanh(params["W"] @ state + params["U"] @ inputs[0]) - state
    state = state + 0.1 * slope
    return state, _loss(params["C"] @ state, inputs[1])


def _complex(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    turn = anp.exp(-anp.exp(params["decay"]) + 1j * params["angle"])
    state = turn * state + params["B"] @ (inputs[0] + 0j)
    return state, _loss(anp.real(params["C"] @ state), inputs[1])


_soft: Any = primitive(np.tanh)
defvjp(_soft, lambda y, x: lambda gradient: gradient * (1 - y**2))


def _no_jvp(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    state = _soft(params["W"] @ state + params["U"] @ inputs[0])
    return state, _loss(params["C"] @ state, inputs[1])


MATRICES = {
    "W": 0.5 * draw(0, UNITS, UNITS),
    "U": 0.5 * draw(1, UNITS, IN),
    "C": 0.5 * draw(2, OUT, UNITS),
}

AUTOGRAD_MODELS = (
    AutogradModel("tanh network", _tanh, MATRICES, np.zeros(UNITS)),
    AutogradModel(
        "nested trees",
        _nested,
        MATRICES,
        {"low": np.zeros(UNITS), "high": (np.zeros(UNITS), np.zeros(UNITS))},
    ),
    AutogradModel(
        "an integer in the state",
        _counting,
        MATRICES,
        {"clock": np.array(0), "hidden": np.zeros(UNITS)},
    ),
    AutogradModel("ODE step", _ode, MATRICES, np.zeros(UNITS)),
    AutogradModel("a primitive with a vjp alone", _no_jvp, MATRICES, np.zeros(UNITS)),
    AutogradModel(
        "linear recurrent unit, complex state and params",
        _complex,
        {
            "decay": draw(3, UNITS),
            "angle": draw(4, UNITS),
            "B": draw(5, UNITS, IN) + 1j * draw(6, UNITS, IN),
            "C": draw(7, OUT, UNITS) + 1j * draw(8, OUT, UNITS),
        },
        np.zeros(UNITS, complex),
    ),
)
