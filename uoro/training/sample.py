"""Let a trained model write: its params and state as NumPy arrays, one symbol after the other."""

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
    """Go on from a prompt, each symbol drawn from what the model predicts and then read by it.

    Args:
        model: The model.
        params: Its params, host arrays; see `unflatten`.
        state: The state to start from, of one stream.
        prompt: The numbers of at least one symbol, which are read first.
        count: How many symbols to draw.
        temperature: What logits are divided by; at 0 the most likely symbol is taken.
        seed: Determines what is drawn.

    Returns:
        The numbers of the symbols drawn, without the prompt.

    Raises:
        SettingError: If there is no prompt, a symbol of it is not in the alphabet, the temperature
            is negative, or the model predicts what is not finite.
    """
    call = f"sample(count={count!r}, temperature={temperature!r})"
    count = require_count(call, "number of symbols", count)
    if not (math.isfinite(temperature) and temperature >= 0.0):
        raise SettingError(f"{call}: the temperature must be a number >= 0.")
    given = [int(symbol) for symbol in prompt]
    if not given or not all(0 <= symbol < model.alphabet for symbol in given):
        raise SettingError(
            f"{call}: the prompt is {given[:20]}; wanted is at least one symbol, each a number "
            f"from 0 to {model.alphabet - 1}."
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
                f"{call}: before symbol {i} the model's logits are not finite. Its params have "
                "diverged; take an earlier checkpoint."
            )
        drawn[i] = _draw(generator, np.asarray(logits, np.float64), temperature)
    return drawn


def unflatten(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Make nested dictionaries of the arrays whose names begin with a prefix.

    Args:
        arrays: Arrays by names such as ``"params/0/gates"``, as a snapshot has them.
        prefix: The first parts of the names, such as ``"params"``.

    Returns:
        What is below it, such as ``{"0": {"gates": ...}}``.

    Raises:
        StructureError: If there is nothing below it, or a name stands for an array and for a
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
                f"{call}: {name!r} stands for an array, and there are arrays below it or instead "
                "of it. Wanted are names of which none is the beginning of another."
            )
        branch[last] = array
    if not tree:
        known = sorted({name.partition("/")[0] for name in arrays})
        raise StructureError(f"{call}: there is no such array. Known beginnings: {known}.")
    return tree


def _draw(generator: np.random.Generator, logits: Any, temperature: float) -> int:
    if temperature == 0.0:
        return int(np.argmax(logits))
    # Shifted first, so that no temperature makes anything overflow.
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((logits - np.max(logits)) / temperature)
    return int(generator.choice(len(weights), p=weights / np.sum(weights)))
