"""Random draws of PyTorch, each a function of its key."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optree
import torch
from torch import Tensor

from uoro.backend import Distribution
from uoro_torch.trees import as_real, differentiable


def seed_of(key: tuple[int, ...]) -> int:
    """Return the seed, an integer of 63 bits, that a key stands for."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def draw(
    device: torch.device,
    key: tuple[int, ...],
    like: Any,
    distribution: Distribution,
    batch: tuple[int, ...] = (),
    stacked: int = 0,
) -> Any:
    """Draw on the device, from a generator seeded by the key.

    Args:
        device: Device of the generator and of the draws.
        key: Key of the draw.
        like: Tree with the shapes and dtypes to draw in.
        distribution: Distribution of one tree.
        batch: Axes to add after the stacked ones, each entry an independent draw.
        stacked: Number of leading axes of ``like`` that are stack axes already.
    """
    generator = torch.Generator(device).manual_seed(seed_of(key))
    leaves, structure = optree.tree_flatten(differentiable(like))
    draws = []
    for leaf in leaves:
        shape = (*leaf.shape[:stacked], *batch, *leaf.shape[stacked:])
        drawn = torch.empty(shape, dtype=leaf.dtype, device=device)
        numbers = as_real(drawn)
        if distribution == "signs":
            numbers.random_(0, 2, generator=generator).mul_(2).sub_(1)
        else:
            numbers.normal_(generator=generator)
        draws.append(drawn)
    if distribution == "spherical" and draws:
        lead = draws[0].shape[: stacked + len(batch)]
        rows = torch.cat([as_real(drawn).reshape((*lead, -1)).double() for drawn in draws], -1)
        scale = math.sqrt(rows.shape[-1]) / torch.linalg.vector_norm(rows, dim=-1)
        draws = [
            (drawn * scale.reshape(lead + (1,) * (drawn.ndim - len(lead)))).to(drawn.dtype)
            for drawn in draws
        ]
    return optree.tree_unflatten(structure, draws)


@contextmanager
def seeded(seed: Tensor) -> Iterator[None]:
    """Enter a context that draws from a seed, and restores the random states at its end.

    Args:
        seed: Integer, or one for each row, of which the first counts.
    """
    number = int(seed[0] if seed.ndim else seed)
    generators = [torch.default_generator]
    cuda: Any = torch.cuda
    if cuda.is_initialized():
        generators += cuda.default_generators
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(number)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
