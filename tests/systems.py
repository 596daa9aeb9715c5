"""Small systems that tests share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from uoro import Backend
from uoro.algebra import norm
from uoro.models import GRU, LSTM, InfluenceBalancing, Model, SymbolModel, Tanh

ALPHABET = 3


@dataclass(frozen=True)
class TwoLeaves:
    """A tanh recurrence whose state is a dict of two leaves that act on each other."""

    units: int = 1

    def init(self, generator: np.random.Generator) -> tuple[Any, Any]:
        n = self.units
        params = {
            "recurrent": generator.normal(size=(n, n)),
            "leak": generator.normal(size=n),
            "readout": generator.normal(size=n),
        }
        return params, {"fast": generator.normal(size=n), "slow": generator.normal(size=n)}

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        fast = xp.tanh(params["recurrent"] @ state["fast"] + 0.5 * state["slow"])
        slow = 0.9 * state["slow"] + params["leak"] * state["fast"]
        error = xp.sum(params["readout"] * (fast + slow)) - inputs["symbol"]
        return {"fast": fast, "slow": slow}, 0.5 * error**2


MODELS: dict[str, Model] = {
    "linear": InfluenceBalancing(4, 2),
    "two leaves": TwoLeaves(2),
    "rnn": SymbolModel((Tanh(4),), ALPHABET),
    "gru": SymbolModel((GRU(4),), ALPHABET),
    "lstm": SymbolModel((LSTM(3),), ALPHABET),
    "stack": SymbolModel((GRU(3), LSTM(2)), ALPHABET),
}

TINY_MODELS: dict[str, Model] = {
    "linear": InfluenceBalancing(2, 1),
    "two leaves": TwoLeaves(1),
    "rnn": SymbolModel((Tanh(2),), ALPHABET),
    "gru": SymbolModel((GRU(2),), ALPHABET),
    "lstm": SymbolModel((LSTM(1),), ALPHABET),
    "stack": SymbolModel((GRU(1), Tanh(1)), ALPHABET),
}


def make_items(count: int, seed: int = 1) -> dict[str, Any]:
    """Draw a stack of items for any of the models."""
    generator = np.random.default_rng(seed)
    return {
        "symbol": generator.integers(0, ALPHABET, count),
        "target": generator.integers(0, ALPHABET, count),
    }


def build(backend: Backend, model: Model, seed: int = 0) -> tuple[Any, Any, Any]:
    """Make dynamics, params and state on a backend, in float64."""
    params, state = model.init(np.random.default_rng(seed))
    # Away from zero, where a state of zeros would hide half of the derivatives.
    state = jiggle(state, np.random.default_rng(seed + 100))
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    return dynamics, backend.from_host(params), backend.from_host(state)


def jiggle(tree: Any, generator: np.random.Generator, scale: float = 0.3) -> Any:
    """Move every number of nested dicts a little."""
    if isinstance(tree, dict):
        return {name: jiggle(part, generator, scale) for name, part in tree.items()}
    return tree + scale * generator.normal(size=np.shape(tree))


def entries(backend: Backend, stack: Any, count: int) -> list[Any]:
    """Take a stack on the host apart, onto a backend."""
    return [
        backend.from_host({name: column[i] for name, column in stack.items()}) for i in range(count)
    ]


def relative(backend: Backend, got: Any, wanted: Any) -> float:
    """Norm of the difference over the norm of what was wanted."""
    gap = float(norm(backend, backend.combine((1.0, got), (-1.0, wanted))))
    size = float(norm(backend, wanted))
    return gap / size if size else gap


class Changed:
    """Dynamics with one method replaced."""

    span = 1

    def __init__(self, dynamics: Any, **methods: Any) -> None:
        self.backend = dynamics.backend
        self.forward, self.jvp, self.vjp = dynamics.forward, dynamics.jvp, dynamics.vjp
        self.__dict__.update(methods)
