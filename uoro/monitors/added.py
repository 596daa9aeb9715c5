"""What the last reduction of pairs added to the variance of the influence."""

from __future__ import annotations

import math
from typing import Any

from uoro.algebra import gram
from uoro.backend import Backend
from uoro.estimators import JointInfluence


def variance_added(
    backend: Backend, carry: JointInfluence[Any, Any], *, stacked: bool, streams: bool = False
) -> tuple[Any, Any]:
    """Give the variance that the last reduction added, and the squared norm of the estimate.

    The estimate of the influence is ``Σ_i s̃_i ⊗ θ̃_i``; its squared Frobenius norm is
    ``Σ_ij <s̃_i, s̃_j> <θ̃_i, θ̃_j>``. Of several streams both are sums.

    Cost: the inner products of k pairs with each other, one pass over them. It compiles.

    Args:
        backend: The backend of the memory.
        carry: That of `JointUORO`.
        stacked: Whether pairs have a leading axis: with a rank beyond 1.
        streams: Whether the memory is a stack of those of several streams.
    """

    def one(carry: JointInfluence[Any, Any]) -> tuple[Any, Any]:
        pair = carry.tangent, carry.cotangent
        if not stacked:
            pair = backend.map(lambda leaf: leaf[None], pair)
        tangents, cotangents = (gram(backend, part, part) for part in pair)
        return carry.added, (tangents * cotangents).sum()

    added, squared = (backend.vmap(one) if streams else one)(carry)
    return backend.from_host(added).sum(), squared.sum()


def name_added(added: Any, squared: Any) -> dict[str, float]:
    """Give both as Python floats, by the names they are logged under."""
    variance, size = float(added), float(squared)
    return {
        "added/variance": variance,
        "added/influence_squared": size,
        "added/relative": variance / size if size > 0 else math.nan,
    }
