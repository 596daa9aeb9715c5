"""Random projections of a state: as many as there are pairs, and orthogonal to each other."""

from __future__ import annotations

import math
from typing import Any

from uoro.algebra import coordinates, shaped, size, working_precision
from uoro.backend import Backend, Tree


def projections(backend: Backend, signs: Tree, count: int) -> Tree:
    """Return k random trees ``ν_1 … ν_k`` with ``E[Σ ν_j ν_jᵀ] = I``, orthogonal to each other.

    Each ν_j is a row of a fixed n × n matrix whose columns are multiplied by random signs. Two
    properties are needed: the rows are orthogonal, so that n of them sum to the identity without
    variance; and the squares of k rows sum to one at every coordinate, so that the mean is the
    identity. A Hadamard matrix has both properties, but exists for few n. The real Fourier basis
    has both for all k <= n, if cosine and sine of one frequency are chosen together.

    The variance of ``Σ ν_j ν_jᵀ K`` is ``(n/k - 1) ‖K‖²``; with k independent sign vectors, each
    divided by √k, it is ``(n - 1)/k ‖K‖²``. All bases with both properties have the same variance,
    and choosing the rows at random does not reduce it.

    Args:
        backend: Backend of the state.
        signs: A tree shaped like the state, one random sign for each coordinate.
        count: k. If k exceeds the number of coordinates, the rest of the trees are zero.

    Returns:
        A stack of k trees.
    """
    n = size(backend, signs)
    xp, dtype = backend.xp, working_precision(backend, signs)
    place = xp.arange(n, dtype=getattr(xp, dtype))
    rows = [_fourier_row(xp, place, n, row, count) for row in _chosen(n, count)]
    rows += [0.0 * place] * (count - len(rows))
    lifted = backend.map(lambda leaf: leaf[None], signs)
    matrix = backend.from_host(xp.stack(rows)) * coordinates(backend, lifted)
    stack: Tree = shaped(backend, matrix, signs)
    return stack


def _chosen(n: int, count: int) -> list[tuple[int, bool]]:
    """Choose rows ``(frequency, is sine)``: whole pairs, and rows without a sine to fill up."""
    if count >= n:
        rows = [(0, False)] + [(n // 2, False)] * (n % 2 == 0 and n > 0)
    else:
        rows = [(0, False)] * (count % 2)
    pairs = (min(count, n) - len(rows)) // 2
    return rows + [(i + 1, sine) for i in range(pairs) for sine in (False, True)]


def _fourier_row(xp: Any, place: Any, n: int, row: tuple[int, bool], count: int) -> Any:
    frequency, sine = row
    angle = (2.0 * math.pi / n) * ((frequency * place) % n)
    paired = 0 < 2 * frequency < n
    scale = math.sqrt((2.0 if paired else 1.0) / min(count, n))
    return scale * (xp.sin(angle) if sine else xp.cos(angle))
