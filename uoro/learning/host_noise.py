"""Random signs drawn on the host, equal for every backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from uoro.backend import Distribution
from uoro.learning.stream import Taking, require_number

BLOCK = 256
NOISE = 1


def numbered_generator(seed: int, *numbers: int) -> np.random.Generator:
    """Return an independent generator for each sequence of numbers under a seed.

    One number stands for a block of a stream of data. Signs take two numbers, so that data and
    signs of the same seed never share random bits.
    """
    seeds = np.random.SeedSequence(seed, spawn_key=numbers)
    return np.random.Generator(np.random.Philox(seeds))


def draw_leaf(
    generator: np.random.Generator, distribution: Distribution, shape: tuple[int, ...], dtype: Any
) -> np.ndarray[Any, Any]:
    """Draw independent coordinates: fair signs, or standard normal numbers."""
    if np.issubdtype(dtype, np.complexfloating):
        part = np.empty(0, dtype).real.dtype
        pair = [draw_leaf(generator, distribution, shape, part) for _ in range(2)]
        return (pair[0] + 1j * pair[1]).astype(dtype)
    if distribution == "signs":
        bits = np.frombuffer(generator.bytes((math.prod(shape) + 7) // 8), np.uint8)
        signs = np.unpackbits(bits, count=math.prod(shape)).astype(dtype) * 2 - 1
        return signs.reshape(shape)
    return generator.standard_normal(shape).astype(dtype)


def draw_leaves(
    generator: np.random.Generator,
    distribution: Distribution,
    likes: list[Any],
    batch: tuple[int, ...],
    stacked: int,
) -> list[np.ndarray[Any, Any]]:
    """Draw the leaves of one tree; `uoro.backend.Backend.random` documents the arguments.

    Args:
        generator: Source of random numbers.
        distribution: Distribution of the coordinates.
        likes: Arrays whose shapes and dtypes the leaves take.
        batch: Axes to add after the stacked axes.
        stacked: Number of leading axes of each leaf that are stack axes.
    """
    draws = []
    for like in likes:
        shape = tuple(like.shape)
        draws.append(
            draw_leaf(
                generator, distribution, shape[:stacked] + batch + shape[stacked:], like.dtype
            )
        )
    if distribution != "spherical" or not draws:
        return draws
    lead = draws[0].shape[: stacked + len(batch)]
    rows = [draw.reshape((*lead, -1)) for draw in draws]
    count = sum(row.shape[-1] * (1 + np.iscomplexobj(row)) for row in rows)
    length = np.sqrt(sum((np.abs(row).astype(np.float64) ** 2).sum(-1) for row in rows))
    scale = math.sqrt(count) / np.asarray(length)
    return [
        (row * scale[..., None]).astype(draw.dtype).reshape(draw.shape)
        for row, draw in zip(rows, draws, strict=True)
    ]


@contextmanager
def numpy_random_state_kept() -> Iterator[None]:
    """Restore NumPy's global random state on exit."""
    get_state: Any = np.random.get_state
    state = get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


class SharedNoise(Taking):
    """The random signs of an estimator as a stream of host trees, equal for every backend.

    Signs are drawn in blocks of steps, each from its own seed. The signs of a step therefore
    depend neither on the order of the draws nor on how many are drawn at a time.

    Args:
        draw: Method `draw` of the estimator.
        state: Initial hidden state, one NumPy array or a nested dict of them, whose shapes and
            dtypes the signs take.
        seed: Seed; equal seeds give equal signs.
    """

    def __init__(self, draw: Callable[..., Any], state: Any, seed: int) -> None:
        self._draw = draw
        self._states = map_host(lambda leaf: np.broadcast_to(leaf, (BLOCK, *leaf.shape)), state)
        self._seed = seed
        self._next = 0
        self._block: tuple[int, Any] = (-1, None)

    @property
    def used(self) -> bool:
        """Whether the estimator draws any signs."""
        return self._at(0) is not None

    def _one_of(self, items: Any) -> Any:
        """Return the first signs of a stack."""
        return map_host(lambda leaf: leaf[0], items)

    @property
    def position(self) -> int:
        """Step whose signs come next."""
        return self._next

    def seek(self, position: Any) -> None:
        """Continue with the signs of a step.

        Raises:
            StreamError: If the position is no integer >= 0.
        """
        self._next = require_number("SharedNoise", position, "the number of a step")

    def take(self, count: int) -> Any:
        """Return the signs of the next ``count`` steps as a stack."""
        parts = []
        while count > 0:
            number, offset = divmod(self._next, BLOCK)
            got = min(count, BLOCK - offset)
            window = slice(offset, offset + got)
            parts.append(map_host(lambda leaf, window=window: leaf[window], self._at(number)))
            self._next += got
            count -= got
        return map_host(lambda *leaves: np.concatenate(leaves), *parts)

    def _at(self, number: int) -> Any:
        if self._block[0] != number:
            generator = numbered_generator(self._seed, NOISE, number)

            def sampler(
                like: Any, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0
            ) -> Any:
                leaves: list[Any] = []
                map_host(leaves.append, like)
                drawn = iter(draw_leaves(generator, distribution, leaves, batch, stacked + 1))
                return map_host(lambda _: next(drawn), like)

            self._block = (number, self._draw(sampler, self._states))
        return self._block[1]


def map_host(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Return nested dicts and tuples with a function applied to each array, in a fixed order."""
    if isinstance(tree, dict):
        return {
            name: map_host(function, tree[name], *(other[name] for other in others))
            for name in sorted(tree)
        }
    if isinstance(tree, tuple):
        parts = (map_host(function, *each) for each in zip(tree, *others, strict=True))
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return function(tree, *others)
