"""Rows of signs, and how they become the noise of a step and its pairs become a mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from uoro.algebra import coordinates
from uoro.backend import Backend


def hadamard_designs(coordinates: int, seed: int) -> Any:
    """Make signs closed under negation with mean(ν νᵀ) = I: 2m rows, m = 2^⌈log2 n⌉.

    Rows of a Hadamard matrix of order m, first n columns, each column times a random sign; and
    their negatives.
    """
    order = 1
    matrix = np.ones((1, 1))
    while order < coordinates:
        matrix, order = np.block([[matrix, matrix], [matrix, -matrix]]), 2 * order
    rows = matrix[:, :coordinates] * np.random.default_rng(seed).choice([-1.0, 1.0], coordinates)
    return np.concatenate([rows, -rows])


def as_noise(backend: Backend, state: Any, rows: Any, rank: int) -> Any:
    """Shape rows of signs into a stack of noise trees.

    Args:
        backend: The backend of the state.
        state: What one draw is shaped like.
        rows: A matrix of signs, rank × coordinates of the state in each row.
        rank: How many draws a step takes; with more than one they are a second leading axis.
    """
    batch = (len(rows),) if rank == 1 else (len(rows), rank)
    signs = rows.reshape((len(rows), rank, -1))
    parts, start = [], 0
    for _, leaf in backend.named_leaves(state):
        count = math.prod(leaf.shape)
        parts.append(signs[:, :, start : start + count].reshape((*batch, *leaf.shape)))
        start += count
    drawn = iter(parts)
    like = backend.zeros(state, batch=batch)
    return backend.map(lambda zero: zero + backend.from_host(next(drawn)), like)


def flat_pairs(backend: Backend, memory: Any, rank: int) -> tuple[Any, Any]:
    """Line up the pairs of a stack of memories, whatever their rank.

    Returns:
        The tangents as a matrix, one row a pair, and the cotangents as a stack.
    """
    tangents, cotangents = memory.tangent, memory.cotangent
    if rank > 1:
        tangents, cotangents = (
            backend.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), tree)
            for tree in (tangents, cotangents)
        )
    return coordinates(backend, tangents), cotangents
