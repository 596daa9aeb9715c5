"""The pieces models are made of: uniform initialisation, table look-up, softmax loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def uniform_map(generator: np.random.Generator, rows: int, columns: int) -> Any:
    """Draw a linear map from ``columns`` to ``rows``, uniform within ±1/sqrt(columns)."""
    bound = 1.0 / math.sqrt(columns)
    return generator.uniform(-bound, bound, (rows, columns))


def uniform_bias(generator: np.random.Generator, rows: int, fan_in: int) -> Any:
    """Draw a bias, uniform within ±1/sqrt(fan_in)."""
    bound = 1.0 / math.sqrt(fan_in)
    return generator.uniform(-bound, bound, rows)


def row(xp: Any, table: Any, index: Any) -> Any:
    """Return one row of a table; ``index`` is an integer array of shape ()."""
    return table[xp.reshape(index, (1,))][0]


def input_map(generator: np.random.Generator, rows: int, fan_in: int, symbols: bool) -> Any:
    """Draw a normal embedding with one row per symbol, or a linear map of the layer below."""
    if symbols:
        return generator.standard_normal((fan_in, rows))
    return uniform_map(generator, rows, fan_in)


def read(xp: Any, table: Any, inputs: Any, symbols: bool) -> Any:
    """Return the row of a symbol in an embedding, or the mapped output of the layer below."""
    return row(xp, table, inputs) if symbols else table @ inputs


def sigmoid(xp: Any, x: Any) -> Any:
    """Logistic function, without overflow for any x."""
    return 0.5 * (xp.tanh(0.5 * x) + 1.0)


def softmax_loss(xp: Any, logits: Any, target: Any) -> Any:
    """Cross-entropy, in nats, of a softmax over ``logits`` at the integer ``target``."""
    shifted = logits - xp.max(logits)
    return xp.log(xp.sum(xp.exp(shifted))) - row(xp, shifted, target)
