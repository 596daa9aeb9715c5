"""Joint pairs that are reduced otherwise than the library does, and are unbiased all the same."""

from __future__ import annotations

from typing import Any

from uoro_conformance.mutants.joint_variants import JointStep, JointVariant, Parts, Rows, optimal

from uoro.algebra import coordinates, entry, repeat, shaped
from uoro.backend import Backend
from uoro.estimators.reduction import unit_rows


def _turned(now: JointStep, parts: Parts) -> Any:
    """Turn the two pairs into each other by a fixed angle."""
    rows = optimal(now, parts)
    turned = [0.8 * rows[:, 0] - 0.6 * rows[:, 1], 0.6 * rows[:, 0] + 0.8 * rows[:, 1]]
    return now.backend.xp.stack(turned, -1)


def _equal_shares(now: JointStep, parts: Parts) -> Any:
    """Assign strong and weak directions the same share."""
    equal = parts.values * 0 + now.rank / len(parts.values)
    return unit_rows(now.backend.xp, equal, now.rank)


def _as_they_are(now: JointStep, tangents: Any, cotangents: Any) -> Parts:
    """Return the 2k pairs themselves, with the two sides scaled to equal norms."""
    xp = now.backend.xp
    lengths = [(rows**2).sum(1) ** 0.5 + 1e-7 for rows in (tangents, cotangents)]
    balance = (lengths[1] / lengths[0]) ** 0.5
    ones = xp.ones_like(balance)
    return Parts(ones, balance[:, None] * tangents, cotangents / balance[:, None])


def _old_with_fresh(now: JointStep, parts: Parts) -> Any:
    """Merge each carried pair with a fresh one, as Algorithm 1 does."""
    xp, ones = now.backend.xp, parts.values * 0 + 1
    place = (xp.cumsum(ones, 0) - 1) % now.rank
    return xp.stack([xp.where(place == j, ones, 0.0) for j in range(now.rank)], -1)


def _fresh_signed(now: JointStep, parts: Parts, rows: Any) -> Rows:
    """Multiply the fresh pairs by signs, and leave the carried ones."""
    signs = now.backend.xp.concatenate([parts.values[: now.rank], now.signs[: now.rank]], 0)
    signed = signs[:, None] * rows
    return signed, signed


def _variance_of_two(now: JointStep, parts: Parts, rows: Any) -> Any:
    """Return ``Σ ‖a ⊗ b' + a' ⊗ b‖²`` over the carried pairs (a, b), each with its fresh one."""
    (a, fresh_a), (b, fresh_b) = (
        (side[: now.rank], side[now.rank :]) for side in (parts.left, parts.right)
    )
    across = (a**2).sum(1) * (fresh_b**2).sum(1) + (fresh_a**2).sum(1) * (b**2).sum(1)
    return (across + 2 * (a * fresh_a).sum(1) * (b * fresh_b).sum(1)).sum()


def _independent(backend: Backend, drawn: Any, rank: int) -> Any:
    """Draw signs for each projection by itself."""
    return backend.map(lambda leaf: leaf[:rank] / rank**0.5, drawn)


def _cut_hadamard(backend: Backend, drawn: Any, rank: int) -> Any:
    """Build rows of ±1 that are orthogonal only if the number of coordinates is even."""
    xp, signs = backend.xp, coordinates(backend, drawn)[0]
    alternating = (-1.0) ** (xp.cumsum(signs * 0 + 1, 0) - 1)
    rows = xp.stack([signs, signs * alternating]) / rank**0.5
    return shaped(backend, rows, entry(backend, drawn, 0))


def _same(backend: Backend, drawn: Any, rank: int) -> Any:
    """Return one projection for all pairs."""
    return repeat(backend, backend.combine((rank**-0.5, entry(backend, drawn, 0))), rank)


RIGHT_JOINT: tuple[JointVariant, ...] = (
    JointVariant("joint: the library's, piece by piece"),
    JointVariant("joint: unit rows turned", rows=_turned),
    JointVariant("joint: equal shares", rows=_equal_shares),
    JointVariant(
        "joint: each old pair with a fresh one",
        decompose=_as_they_are,
        rows=_old_with_fresh,
        sign=_fresh_signed,
        report=_variance_of_two,
    ),
    JointVariant("joint: independent projections", project=_independent, draws=3),
    JointVariant("joint: projections not orthogonal", project=_cut_hadamard),
    JointVariant("joint: one projection for all pairs", project=_same),
)
"""Of rank two."""
