"""Wrong samplers: no fair independent signs, each to be refused by `check_signs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Generator = np.random.Generator
Shape = tuple[int, int, int]


def fair(generator: Generator, shape: Shape) -> Any:
    """Draw fair, independent signs."""
    return generator.choice([-1.0, 1.0], shape)


def _shared(axis: int) -> Callable[[Generator, Shape], Any]:
    """Return a sampler that repeats the first entry along an axis."""

    def draw(generator: Generator, shape: Shape) -> Any:
        first = np.take(fair(generator, shape), [0], axis)
        return np.broadcast_to(first, shape)

    return draw


def _sticky(generator: Generator, shape: Shape) -> Any:
    draws, stay = fair(generator, shape), generator.random(shape) < 0.9
    for step in range(1, shape[1]):
        draws[:, step] = np.where(stay[:, step], draws[:, step - 1], draws[:, step])
    return draws


def _every_second(generator: Generator, shape: Shape) -> Any:
    draws = fair(generator, shape)
    for step in range(2, shape[1]):
        draws[:, step] = draws[:, step - 2]
    return draws


def _sliding(generator: Generator, shape: Shape) -> Any:
    """Draw as a counter does that is advanced by one, and not by what was drawn."""
    runs, steps, width = shape
    stream = fair(generator, (runs, steps + width, 1))[..., 0]
    return np.stack([stream[:, step : step + width] for step in range(steps)], axis=1)


def _runs_apart(generator: Generator, shape: Shape) -> Any:
    """Draw as a key does that adds the number of the run to that of the step."""
    runs, steps, width = shape
    stream = fair(generator, (1, runs + steps, width))[0]
    return np.stack([stream[run : run + steps] for run in range(runs)])


WRONG_SAMPLERS: dict[str, Callable[[Generator, Shape], Any]] = {
    "shared by all steps": _shared(1),
    "sticky": _sticky,
    "repeats every second step": _every_second,
    "one sign for all coordinates": _shared(2),
    "shared by all runs": _shared(0),
    "slides by one coordinate a step": _sliding,
    "runs a step apart": _runs_apart,
    "all plus": lambda generator, shape: np.ones(shape),
    "zero or one": lambda generator, shape: (fair(generator, shape) + 1) / 2,
    "Gaussian of variance 2": lambda generator, shape: generator.normal(size=shape) * 2**0.5,
    "uniform on (-1, 1)": lambda generator, shape: generator.uniform(-1, 1, shape),
    "P(+1) = 0.55": lambda generator, shape: np.where(generator.random(shape) < 0.55, 1.0, -1.0),
}
"""From a generator and (runs, steps, coordinates) to draws. The last needs some 12,000 of them."""
