"""Norms of the pairs of UORO, and whether they are finite."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from uoro.algebra import flatten, norm
from uoro.backend import Backend
from uoro.estimators import Influence


class PairNorms(NamedTuple):
    """Norms of pairs; with several pairs, root mean squares.

    Attributes:
        tangent: ‖s̃‖.
        cotangent: ‖θ̃‖.
        norm: ‖s̃‖ ‖θ̃‖, the norm of the influence estimate s̃ ⊗ θ̃.
        largest: Largest ‖s̃‖ ‖θ̃‖.
        finite: Whether all norms are finite.
    """

    tangent: float
    cotangent: float
    norm: float
    largest: float
    finite: bool


def norms_of_pairs(backend: Backend, carry: Influence[Any, Any], *, axes: int = 0) -> Any:
    """Return the norms of all tangents and of all cotangents as two vectors. Compiles.

    Args:
        backend: Backend of the carry.
        carry: One pair, or a stack of pairs.
        axes: Number of leading stack axes: 1 for a rank above 1 or for streams, 2 for both.
    """
    for _ in range(axes - 1):
        carry = flatten(backend, carry)
    if not axes:
        return tuple(backend.xp.stack([backend.from_host(norm(backend, part))]) for part in carry)
    return tuple(backend.vmap(partial(norm, backend))(part) for part in carry)


def pair_norms(backend: Backend, carry: Influence[Any, Any], *, axes: int = 0) -> PairNorms:
    """Measure the pairs of UORO: the rank-one estimates s̃ ⊗ θ̃ of the influence.

    UORO balances s̃ and θ̃ so that both grow alike. The product of their norms is the size of the
    estimate, and with it of the noise: where the product diverges, the noise diverges.

    Cost: one pass over the k pairs, each as large as params and state together.

    Args:
        backend: Backend of the carry.
        carry: Carry that `UORO.init` or `UORO.step` returned.
        axes: Number of leading stack axes: 1 for a rank above 1 or for streams, 2 for both.

    Example:
        >>> from uoro import load_backend
        >>> from uoro.estimators import Influence
        >>> from uoro.monitors import pair_norms
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> pair_norms(backend, Influence(xp.array([3.0, 4.0]), xp.array([[2.0]]))).norm
        10.0
    """
    return read_norms(backend, norms_of_pairs(backend, carry, axes=axes))


def read_norms(backend: Backend, norms: Any) -> PairNorms:
    """Bring the result of `norms_of_pairs` to the host."""
    tangents, cotangents = (backend.to_host(part).tolist() for part in norms)
    each = [a * b for a, b in zip(tangents, cotangents, strict=True)]
    return PairNorms(
        _root_mean_square(tangents),
        _root_mean_square(cotangents),
        _root_mean_square(each),
        math.nan if any(map(math.isnan, each)) else max(each),
        all(map(math.isfinite, [*tangents, *cotangents])),
    )


def _root_mean_square(values: Iterable[float]) -> float:
    each = list(values)
    return math.hypot(*each) / math.sqrt(len(each))
