"""Variance that the last reduction of pairs, or of terms, added to the influence estimate."""

from __future__ import annotations

import math
from typing import Any

from uoro.algebra import gram
from uoro.backend import Backend
from uoro.estimators import JointInfluence, KroneckerInfluence
from uoro.estimators.kronecker_pairs import gram_of, gram_of_pieces


def variance_added(
    backend: Backend, carry: JointInfluence[Any, Any], *, stacked: bool, streams: bool = False
) -> tuple[Any, Any]:
    """Return the variance that the last reduction added, and the squared norm of the estimate.

    The influence estimate is ``Σ_i s̃_i ⊗ θ̃_i``; its squared Frobenius norm is
    ``Σ_ij <s̃_i, s̃_j> <θ̃_i, θ̃_j>``. With several streams, both numbers are sums over the streams.

    Cost: the inner products of k pairs, one pass over the pairs. The function compiles.

    Args:
        backend: Backend of the carry.
        carry: Carry of `JointUORO`.
        stacked: Whether the pairs have a leading axis, as with a rank above 1.
        streams: Whether the carry is a stack over streams.
    """

    def one(carry: JointInfluence[Any, Any]) -> tuple[Any, Any]:
        pair = carry.tangent, carry.cotangent
        if not stacked:
            pair = backend.map(lambda leaf: leaf[None], pair)
        tangents, cotangents = (gram(backend, part, part) for part in pair)
        return carry.added, (tangents * cotangents).sum()

    added, squared = (backend.vmap(one) if streams else one)(carry)
    return backend.from_host(added).sum(), squared.sum()


def variance_added_to_terms(
    backend: Backend, carry: KroneckerInfluence, *, streams: bool = False
) -> tuple[Any, Any]:
    """Return the same of Kronecker sums: the sums over all leaves.

    Leaves that are carried exactly count in the squared norm; those of the estimator of the rest
    do not.

    Cost: the inner products of r terms, one pass over what is carried. The function compiles.

    Args:
        backend: Backend of the carry.
        carry: Carry of `KroneckerSum`.
        streams: Whether the carry is a stack over streams.
    """

    def one(carry: KroneckerInfluence) -> tuple[Any, Any]:
        squared = backend.inner(carry.exact, carry.exact)
        for left, right in carry.terms.values():
            products = gram_of(backend, left) * gram_of_pieces(backend, right)
            squared = squared + products.sum()
        return carry.added, squared

    added, squared = (backend.vmap(one) if streams else one)(carry)
    return backend.from_host(added).sum(), squared.sum()


def name_added(added: Any, squared: Any) -> dict[str, float]:
    """Return both as Python floats, by the names that a log uses."""
    variance, size = float(added), float(squared)
    return {
        "added/variance": variance,
        "added/influence_squared": size,
        "added/relative": variance / size if size > 0 else math.nan,
    }
