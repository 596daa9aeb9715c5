"""How large the pairs of UORO are, and whether they are finite."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from uoro.algebra import flatten, norm
from uoro.backend import Backend
from uoro.estimators import Influence


class PairNorms(NamedTuple):
    """Norms of the pairs of a memory; of several, root mean squares.

    Attributes:
        tangent: ‖s̃‖.
        cotangent: ‖θ̃‖.
        norm: ‖s̃‖ ‖θ̃‖, the norm of the estimate s̃ ⊗ θ̃ of the influence.
        largest: The largest ‖s̃‖ ‖θ̃‖.
        finite: Whether all norms are finite.
    """

    tangent: float
    cotangent: float
    norm: float
    largest: float
    finite: bool


def norms_of_pairs(backend: Backend, carry: Influence[Any, Any], *, axes: int = 0) -> Any:
    """Take the norms of all tangents and of all cotangents; two vectors, to be compiled.

    Args:
        backend: The backend of the memory.
        carry: One pair, or a stack.
        axes: How many leading axes are stacks: 1 for a rank beyond 1 or for streams, 2 for both.
    """
    for _ in range(axes - 1):
        carry = flatten(backend, carry)
    if not axes:
        return tuple(backend.xp.stack([backend.from_host(norm(backend, part))]) for part in carry)
    return tuple(backend.vmap(partial(norm, backend))(part) for part in carry)


def pair_norms(backend: Backend, carry: Influence[Any, Any], *, axes: int = 0) -> PairNorms:
    """Measure the pairs of a memory of `UORO`.

    The two parts are balanced to grow alike, so that their product is what says how large, and with
    it how noisy, the estimate is: where it grows without end, so does the noise.

    Cost: one pass over each pair, each k times as large as params and state.

    Args:
        backend: The backend of the memory.
        carry: As `UORO.init` or `UORO.step` give it.
        axes: How many leading axes are stacks: 1 for a rank beyond 1 or for streams, 2 for both.

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
    """Bring what `norms_of_pairs` gives to the host."""
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
