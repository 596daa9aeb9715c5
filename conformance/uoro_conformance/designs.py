"""Rows of signs, and how they become the noise of a step and its pairs become a mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from uoro.algebra import coordinates, entry, repeat, shaped, size
from uoro.backend import Backend
from uoro.estimator import Estimator
from uoro.estimators.joint import DRAWS, JointUORO
from uoro_conformance.finding import REAL


def hadamard_designs(coordinates: int, seed: int) -> Any:
    """Build signs closed under negation with mean(ν νᵀ) = I: 2m rows, m = 2^⌈log2 n⌉.

    Rows of a Hadamard matrix of order m, first n columns, each column times a random sign; and
    their negatives.
    """
    rows = _hadamard_rows(coordinates, seed)
    return np.concatenate([rows, -rows])


def nested_designs(coordinates: int, draws: int, seed: int) -> Any:
    """Build the draws of an estimator of joint pairs: each last draw with each of the others.

    What the last multiplies is not linear in the others. So each row of a design of it is beside
    each row of one of the others. Both have mean(ν) = 0 and mean(ν νᵀ) = I, so that terms linear
    in either vanish too.
    """
    others, last = (
        _hadamard_rows(count + 1, 2 * seed + number)[:, 1:]
        for number, count in enumerate((coordinates * (draws - 1), coordinates))
    )
    return np.concatenate([np.repeat(others, len(last), 0), np.tile(last, (len(others), 1))], 1)


def _hadamard_rows(coordinates: int, seed: int) -> Any:
    order = 1
    matrix = np.ones((1, 1))
    while order < coordinates:
        matrix, order = np.block([[matrix, matrix], [matrix, -matrix]]), 2 * order
    return matrix[:, :coordinates] * np.random.default_rng(seed).choice([-1.0, 1.0], coordinates)


def random_designs(coordinates: int, count: int, seed: int) -> Any:
    """Draw ``count`` rows of signs and add their negatives; mean(ν νᵀ) is what it happens to be."""
    rows = np.random.default_rng(seed).choice([-1.0, 1.0], (count, coordinates))
    return np.concatenate([rows, -rows])


def gaussian(backend: Backend, like: Any, *seed: int, count: int | None = None) -> Any:
    """Draw a standard normal tree, or a stack of ``count`` of them, with NumPy.

    The suite does not draw with the backend that it checks.
    """
    rows = np.random.default_rng(seed).normal(size=(count or 1, size(backend, like)))
    return _tree_of(backend, like, rows[:, None], () if count is None else (count,))


def draws_of(estimator: Estimator) -> int:
    """Count the draws of a step: one for each pair, two of joint pairs, or its own ``draws``."""
    usual = DRAWS if is_joint(estimator) else getattr(estimator, "rank", 1)
    return int(getattr(estimator, "draws", usual))


def is_joint(estimator: Estimator) -> bool:
    """Whether the pairs of an estimator are one estimate: their sum, and not their mean."""
    return isinstance(estimator, JointUORO) or getattr(estimator, "joint", False)


def as_noise(backend: Backend, state: Any, rows: Any, draws: int) -> Any:
    """Shape rows of signs into a stack of sign trees.

    Args:
        backend: The backend of the state.
        state: Hidden state; one draw has its shape.
        rows: A matrix of signs, draws × coordinates of the state in each row.
        draws: Number of draws per step; with more than one they are a second leading axis.
    """
    batch = (len(rows),) if draws == 1 else (len(rows), draws)
    return _tree_of(backend, state, rows.reshape((len(rows), draws, -1)), batch)


def _tree_of(backend: Backend, like: Any, numbers: Any, batch: tuple[int, ...]) -> Any:
    """Shape rows of coordinates into a tree, in the dtypes of ``like``, on the host."""
    parts, start = [], 0
    for _, leaf in backend.named_leaves(like):
        count, pieces = math.prod(leaf.shape), []
        for _ in range(backend.parts(leaf)):
            pieces.append(numbers[..., start : start + count].reshape((*batch, *leaf.shape)))
            start += count
        if pieces:
            parts.append(pieces[0] if len(pieces) == 1 else pieces[0] + 1j * pieces[1])
    drawn = iter(parts)

    def made(zero: Any) -> Any:
        name = str(zero.dtype).rpartition(".")[2]
        return backend.from_host(next(drawn), dtype=REAL.get(name, name))

    return backend.map(made, backend.zeros(like))


def flat_pairs(backend: Backend, tangents: Any, cotangents: Any, rank: int) -> tuple[Any, Any]:
    """Flatten the pairs of a stack of carries of any rank.

    Returns:
        The tangents as a matrix, one row a pair, and the cotangents as a stack.
    """
    if rank > 1:
        tangents, cotangents = unstack(backend, tangents), unstack(backend, cotangents)
    return coordinates(backend, tangents), cotangents


def unstack(backend: Backend, tree: Any) -> Any:
    """Merge the two leading axes of every leaf into one."""
    return backend.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), tree)


def balanced(backend: Backend, tangents: Any, cotangents: Any, rank: int) -> tuple[Any, Any]:
    """Build joint pairs of the same sum whose sides have the same inner products.

    Such are the pairs that a reduction leaves, up to a rotation.
    """
    stacks = (tangents, cotangents)
    if rank == 1:
        stacks = repeat(backend, tangents, 1), repeat(backend, cotangents, 1)
    rows = [np.asarray(backend.to_host(coordinates(backend, stack))) for stack in stacks]
    (left, of_left), (right, of_right) = (np.linalg.qr(each.T.astype(float)) for each in rows)
    basis, values, cobasis = np.linalg.svd(of_left @ of_right.T, full_matrices=False)
    rotation = np.linalg.qr(np.random.default_rng(rank).normal(size=(rank, rank)))[0]
    made = []
    for stack, directions in zip(stacks, (left @ basis, right @ cobasis.T), strict=True):
        turned = rotation[:, : len(values)] @ (directions * values**0.5).T
        like = entry(backend, stack, 0)
        tree = shaped(backend, backend.from_host(turned), like)
        made.append(entry(backend, tree, 0) if rank == 1 else tree)
    return made[0], made[1]
