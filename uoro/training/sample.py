"""Sample symbols from a trained model, whose params and state are NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from uoro.arguments import require_count
from uoro.errors import SettingError, StructureError
from uoro.models import SymbolModel

Symbols = np.ndarray[Any, np.dtype[np.int64]]


def sample(
    model: SymbolModel,
    params: Any,
    state: Any,
    prompt: Iterable[int],
    *,
    count: int,
    temperature: float = 1.0,
    seed: int = 0,
) -> Symbols:
    """Continue a prompt: draw each symbol from the model's prediction, and let the model read it.

    Args:
        model: Model.
        params: Parameters, host arrays; see `unflatten`.
        state: Initial hidden state, of one stream.
        prompt: Numbers of at least one symbol, which the model reads first.
        count: Number of symbols to draw.
        temperature: Divisor of the logits; 0 takes the likeliest symbol.
        seed: Seed of the draws.

    Returns:
        Numbers of the symbols drawn, without the prompt; shape (count,).

    Raises:
        SettingError: If there is no prompt, a symbol is not in the alphabet, the temperature is
            negative, or a logit is not finite.
    """
    call = f"sample(count={count!r}, temperature={temperature!r})"
    count = require_count(call, "number of symbols", count)
    if not (math.isfinite(temperature) and temperature >= 0.0):
        raise SettingError(f"{call}: temperature: expected a number >= 0, got {temperature!r}.")
    given = [int(symbol) for symbol in prompt]
    if not given or not all(0 <= symbol < model.alphabet for symbol in given):
        raise SettingError(
            f"{call}: prompt: expected at least one symbol, numbers from 0 to "
            f"{model.alphabet - 1}, got {given[:20]}."
        )
    generator = np.random.default_rng(seed)
    logits = np.zeros(model.alphabet)
    for symbol in given:
        state, logits = model.predict(np, params, state, np.asarray(symbol))
    drawn = np.zeros(count, np.int64)
    for i in range(count):
        if i:
            state, logits = model.predict(np, params, state, np.asarray(drawn[i - 1]))
        if not np.all(np.isfinite(logits)):
            raise SettingError(
                f"{call}: expected finite logits, got others before symbol {i}, as the params have "
                "diverged. Try an earlier checkpoint."
            )
        drawn[i] = _draw(generator, np.asarray(logits, np.float64), temperature)
    return drawn


def unflatten(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the arrays whose names begin with a prefix, as nested dictionaries.

    Args:
        arrays: Arrays of a snapshot, by names such as ``"params/0/gates"``.
        prefix: First part of the names, such as ``"params"``.

    Returns:
        Arrays below the prefix, such as ``{"0": {"gates": ...}}``.

    Raises:
        StructureError: If there is no such array, or a name stands for an array and for a
            dictionary.
    """
    call = f"unflatten(..., {prefix!r})"
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if not name.startswith(prefix + "/"):
            continue
        *path, last = name[len(prefix) + 1 :].split("/")
        branch: Any = tree
        for part in path:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                break
        if not isinstance(branch, dict) or last in branch:
            raise StructureError(
                f"{call}: expected names of which none begins another, got {name!r}, with arrays "
                "below it or a second time."
            )
        branch[last] = array
    if not tree:
        known = sorted({name.partition("/")[0] for name in arrays})
        raise StructureError(f"{call}: expected one of the prefixes {known}, got {prefix!r}.")
    return tree


def _draw(generator: np.random.Generator, logits: Any, temperature: float) -> int:
    if temperature == 0.0:
        return int(np.argmax(logits))
    # Shifted first, so that no temperature makes the exponential overflow.
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((logits - np.max(logits)) / temperature)
    return int(generator.choice(len(weights), p=weights / np.sum(weights)))
