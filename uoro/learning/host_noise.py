"""Random trees drawn on the host, so that every backend can be given the same ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from uoro.backend import Distribution
from uoro.learning.stream import require_number

BLOCK = 256
NOISE = 1


def numbered_generator(seed: int, *numbers: int) -> np.random.Generator:
    """Make a generator of its own for each sequence of numbers under a seed.

    One number is a block of a stream of data; noise has two, so that a run whose stream and
    noise have the same seed does not draw both from the same bits.
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
    """Draw one tree's leaves; the arguments are those of `uoro.backend.Backend.random`.

    Args:
        generator: Where the numbers come from.
        distribution: What to draw.
        likes: Arrays whose shapes and dtypes count.
        batch: Axes to add after the stacked ones.
        stacked: How many leading axes of each leaf are stack axes.
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
    """Leave NumPy's global random state as it was."""
    get_state: Any = np.random.get_state
    state = get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


class SharedNoise:
    """The noise of an estimator as a stream of host trees, equal for every backend.

    Draws come in blocks of steps, each from its own seed, so that neither the order in which
    they are asked for nor how many at a time changes them.

    Args:
        draw: The estimator's `draw`.
        state: The initial state, a nested dict of NumPy arrays or one array, whose shapes and
            dtypes the noise takes.
        seed: Equal seeds give equal noise.
    """

    def __init__(self, draw: Callable[..., Any], state: Any, seed: int) -> None:
        self._draw = draw
        self._states = map_host(lambda leaf: np.broadcast_to(leaf, (BLOCK, *leaf.shape)), state)
        self._seed = seed
        self._next = 0
        self._block: tuple[int, Any] = (-1, None)

    @property
    def used(self) -> bool:
        """Whether the estimator takes any noise."""
        return self._at(0) is not None

    def __iter__(self) -> SharedNoise:
        return self

    def __next__(self) -> Any:
        return map_host(lambda leaf: leaf[0], self.take(1))

    @property
    def position(self) -> int:
        """The step whose noise comes next."""
        return self._next

    def seek(self, position: Any) -> None:
        """Go on with the noise of a step.

        Raises:
            StreamError: If that is not the number of a step.
        """
        self._next = require_number("SharedNoise", position, "the number of a step")

    def take(self, count: int) -> Any:
        """Give the noise of the next ``count`` steps as a stack."""
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
    """Apply a function to each array of nested dicts, in the order of their sorted keys."""
    if isinstance(tree, dict):
        return {
            name: map_host(function, tree[name], *(other[name] for other in others))
            for name in sorted(tree)
        }
    return function(tree, *others)
