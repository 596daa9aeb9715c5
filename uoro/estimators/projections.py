"""Random projections of a state, orthogonal to each other and as many as there are pairs."""

from __future__ import annotations

import math
from typing import Any

from uoro.algebra import coordinates, shaped, size, working_precision
from uoro.backend import Backend, Tree


def projections(backend: Backend, signs: Tree, count: int) -> Tree:
    """Make k random trees ``ν_1 … ν_k`` with ``E[Σ ν_j ν_jᵀ] = I``, orthogonal to each other.

    Rows of a fixed matrix of size n × n, each coordinate times its random sign. The rows must be
    orthogonal, so that n of them give the identity itself, and the squares of k of them must add
    up to one at every coordinate, so that the mean is the identity. Rows of a Hadamard matrix are
    and do, but there are few n for which one is known, and what is cut to n is not orthogonal. The
    real Fourier basis has both for all k <= n: its cosine and sine of one frequency go together.

    Beside k independent sign vectors, each divided by √k, the variance of ``Σ ν_j ν_jᵀ K`` is
    ``(n/k - 1) ‖K‖²`` and not ``(n - 1)/k ‖K‖²``: nothing is drawn twice. It is the same for all
    bases with both properties, and no smaller if the rows are picked at random.

    Args:
        backend: The backend of the state.
        signs: One random sign for each coordinate of the state.
        count: k. Beyond the number of coordinates, the rest are zero.

    Returns:
        A stack of k.
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
    """Pick rows by frequency, and whether it is the sine: pairs, and what has no sine if needed."""
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
