"""The joint reduction of UORO by the singular values of the whole sum: the reference, in NumPy."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np

APART = 1e-4
"""Singular values closer than that, relative to the largest, have no singular vectors of their
own that two computations would agree on."""


SQUARED = 50
"""How many units of the root of roundoff a reduction may be off by, relative to what was added up:
inner products square the condition, so that pairs in too few dimensions seem to have one more."""


class Reduced(NamedTuple):
    """How ``Σ d_i u_i ⊗ v_i`` is reduced to k pairs.

    Attributes:
        left: u, as rows.
        values: d, largest first.
        right: v, as rows.
        alone: Number of directions that have a pair of their own.
        frame: The unit vectors ``l_i`` of the directions, as rows.
        added: The variance that the reduction adds, the least there is.
    """

    left: Any
    values: Any
    right: Any
    alone: int
    frame: Any
    added: float


def reduce_densely(dense: Any, rank: int) -> Reduced:
    """Reduce a matrix to ``rank`` pairs, by its singular values and rotations of planes."""
    left, values, right = np.linalg.svd(dense, full_matrices=False)
    values = np.where(values > 1e-13 * values[0], values, 0.0)
    alone, m = 0, len(values)
    while alone < min(rank, m) and values[alone] * (rank - alone) >= values[alone:].sum() * (
        1 - 1e-14
    ):
        alone += 1
    shares, added, tail = np.zeros(m), 0.0, values[alone:].sum()
    shares[:alone] = 1.0
    if tail:
        shares[alone:] = (rank - alone) * values[alone:] / tail
        added = float(tail**2 / (rank - alone) - (values[alone:] ** 2).sum())
    frame = _rows_of_given_norms(shares, rank)
    frame /= np.where(shares > 0, shares, 1.0)[:, None] ** 0.5
    return Reduced(left.T, values, right, alone, frame, added)


def _rows_of_given_norms(squares: Any, rank: int) -> Any:
    """Rotate pairs of rows of the first columns of the identity, from the first row down.

    Each rotation is of a row that is done with by it and of what is to be spent: the vector that
    former rotations left, and the next row of the identity.
    """
    frame = np.zeros((len(squares), rank))
    spare, opened = np.zeros(rank), 0
    for i, expected in enumerate(squares):
        if spare @ spare >= expected - 1e-12 or opened == rank:
            length = max(spare @ spare, 1e-300)
            frame[i] = spare * np.sqrt(expected / length)
            spare = spare * np.sqrt(max(1.0 - expected / length, 0.0))
            continue
        unit = np.eye(rank)[opened]
        opened += 1
        sine_squared = (expected - spare @ spare) / (1.0 - spare @ spare)
        sine, cosine = np.sqrt(sine_squared), np.sqrt(max(1.0 - sine_squared, 0.0))
        frame[i] = cosine * spare + sine * unit
        spare = -sine * spare + cosine * unit
    return frame


def gap_of_pairs(reduced: Reduced, tangents: Any, cotangents: Any, signs: Any) -> float:
    """Compare the sum of pairs with the reduction that they must be, in the Frobenius norm.

    Singular vectors have no sign of their own: the signs that agree best are looked for. Seen are
    the directions that are well apart from each other.

    Args:
        reduced: Reduction of the sum.
        tangents: The k tangents, as rows.
        cotangents: The k cotangents, as rows.
        signs: σ, one for each direction at least.
    """
    alone, seen = reduced.alone, _well_apart(reduced)
    left, right, values = reduced.left[:seen], reduced.right[:seen], reduced.values[:seen]
    got = (left @ tangents.T) @ (cotangents @ right.T)
    gaps = []
    for own in product((-1.0, 1.0), repeat=max(0, seen - alone)):
        signed = np.array([1.0] * min(alone, seen) + list(own)) * signs[:seen]
        rows = (signed * values**0.5)[:, None] * reduced.frame[:seen]
        gaps.append(float(np.linalg.norm(got - rows @ rows.T)))
    return min(gaps)


def _well_apart(reduced: Reduced) -> int:
    """Count the directions that are known; those with pairs of their own, as a whole."""
    below = np.append(reduced.values[1:], 0.0)
    apart = reduced.values - below > APART * max(reduced.values[0], 1e-300)
    seen = reduced.alone
    if seen and not apart[seen - 1] and reduced.values[seen:].any():
        return 0
    while seen < len(apart) and apart[seen]:
        seen += 1
    return seen


def resolve_identity(n: int, rank: int) -> Any:
    """Return ``Σ ν_j ν_jᵀ`` of the projections of a state of n coordinates, but for their signs."""
    if rank >= n:
        return np.eye(n)
    place = 2 * np.pi * np.arange(n) / n
    rows = [np.ones(n)] if rank % 2 else []
    for frequency in range(1, n):
        rows += [np.sqrt(2) * np.cos(frequency * place), np.sqrt(2) * np.sin(frequency * place)]
    chosen = np.array(rows[:rank])
    return chosen.T @ chosen / rank
