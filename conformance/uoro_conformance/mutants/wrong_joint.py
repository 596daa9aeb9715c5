"""Wrong estimators of joint pairs, one mistake each, with the check that must refuse it."""

from __future__ import annotations

from typing import Any

from uoro_conformance.mutants.joint_variants import (
    JointStep,
    JointVariant,
    Parts,
    Rows,
    once_each,
    optimal,
    orthogonal_projections,
    pull_all,
    push_all,
    same_signs,
    singular,
    variance_of_rows,
)
from uoro_conformance.mutants.variants import Mutant

from uoro.algebra import coordinates, entry, mean, mix, repeat, shaped
from uoro.backend import Backend
from uoro.dynamics import Moment
from uoro.estimators.reduction import unit_rows, water_filling


def _shares(now: JointStep, parts: Parts) -> Any:
    return water_filling(now.backend.xp, parts.values, now.rank)


def _not_rescaled(now: JointStep, parts: Parts) -> Any:
    return optimal(now, parts) * _shares(now, parts)[:, None] ** 0.5


def _cut_shares(now: JointStep, parts: Parts) -> Any:
    """Divide by p that are cut at one and not shared out anew: they do not add up to k."""
    xp, values, kept = now.backend.xp, parts.values, _shares(now, parts)
    total = values.sum()
    cut = now.rank * values / xp.where(total > 0, total, 1.0)
    cut = xp.where(cut < 1.0, cut, 1.0)
    ratio = kept / xp.where(cut > 0, cut, 1.0)
    return optimal(now, parts) * ratio[:, None] ** 0.5


def _one_place_fewer(now: JointStep, parts: Parts) -> Any:
    xp = now.backend.xp
    rows = unit_rows(xp, water_filling(xp, parts.values, now.rank - 1), now.rank - 1)
    return xp.concatenate([rows, 0.0 * rows[:, :1]], 1)


def _strongest(now: JointStep, parts: Parts) -> Any:
    """Assign the k strongest directions one pair each, and drop the others."""
    xp, ones = now.backend.xp, parts.values * 0 + 1
    place = xp.cumsum(ones, 0) - 1
    return xp.stack([xp.where(place == j, ones, 0.0) for j in range(now.rank)], -1)


def _strongest_for_all(now: JointStep, parts: Parts) -> Any:
    """Scale what is kept of the truncation so that the singular values add up again."""
    kept, total = parts.values[: now.rank].sum(), parts.values.sum()
    ratio = total / now.backend.xp.where(kept > 0, kept, 1.0)
    return _strongest(now, parts) * ratio**0.5


def _one_side(now: JointStep, parts: Parts, rows: Any) -> Rows:
    return same_signs(now, parts, rows)[0], rows


def _others_on_the_right(now: JointStep, parts: Parts, rows: Any) -> Rows:
    flipped = now.backend.xp.flip(now.signs, (0,))[: len(parts.values)]
    return same_signs(now, parts, rows)[0], flipped[:, None] * rows


def _no_signs(now: JointStep, parts: Parts, rows: Any) -> Rows:
    return rows, rows


def _signs_of_the_projections(now: JointStep, parts: Parts, rows: Any) -> Rows:
    return same_signs(now._replace(signs=now.first_signs), parts, rows)


def _last_signs(now: JointStep, parts: Parts, rows: Any) -> Rows:
    """Sign by what the last step drew; by plus one at the first."""
    before = now.backend.xp.where(now.carry.clock > 0, now.carry.signs, 1.0)
    return same_signs(now._replace(signs=before), parts, rows)


def _signs_for_each_pair(now: JointStep, parts: Parts, rows: Any) -> Rows:
    """Sign the pairs, where the directions should be."""
    signed = rows * now.signs[: now.rank]
    return signed, signed


def _flipped_apart(now: JointStep, tangents: Any, cotangents: Any) -> Parts:
    """Flip singular vectors to a positive sum, independently on the two sides."""
    parts = singular(now, tangents, cotangents)
    flip = [now.backend.xp.where(rows.sum(1) < 0, -1.0, 1.0) for rows in parts[1:]]
    return parts._replace(left=flip[0][:, None] * parts.left, right=flip[1][:, None] * parts.right)


def _weak_dropped(now: JointStep, tangents: Any, cotangents: Any) -> Parts:
    parts = singular(now, tangents, cotangents)
    values = parts.values
    return parts._replace(values=now.backend.xp.where(values > 0.1 * values[0], values, 0.0))


def _unscaled_projections(backend: Backend, drawn: Any, rank: int) -> Any:
    made = orthogonal_projections(backend, drawn, rank)
    return backend.combine((rank**0.5, made))


def _unsigned_projections(backend: Backend, drawn: Any, rank: int) -> Any:
    ones = backend.map(lambda leaf: leaf * 0 + 1, drawn)
    return orthogonal_projections(backend, ones, rank)


def _uneven_projections(backend: Backend, drawn: Any, rank: int) -> Any:
    """Build cosines without sines: the squares do not sum to one at each coordinate."""
    xp = backend.xp
    signs = coordinates(backend, drawn)[:1]
    n = signs.shape[1]
    place = xp.cumsum(signs[0] * 0 + 1, 0) - 1
    waves = [xp.cos(2 * xp.pi * j * place / n) for j in range(rank)]
    rows = [(n / rank) ** 0.5 * wave / (wave**2).sum() ** 0.5 for wave in waves]
    return shaped(backend, xp.stack(rows) * signs, entry(backend, drawn, 0))


def _later(now: JointStep) -> Moment:
    """Return the point one step later: the next state, with the same item."""
    return now.at._replace(state=now.next_state)


def _push_later(now: JointStep) -> Any:
    return push_all(now._replace(at=_later(now)))


def _pull_later(now: JointStep) -> Any:
    pullback = now.dynamics.vjp(*_later(now))[1]
    return pull_all(now._replace(pullback=pullback))


def _pull_stale(now: JointStep) -> Any:
    pullback = now.dynamics.vjp(*now.at._replace(params=now.carry.params))[1]
    return pull_all(now._replace(pullback=pullback))


def _pull_one(now: JointStep) -> Any:
    """Pull the sum of the projections back, and give a share of it to each."""
    backend = now.backend
    pulled = now.pullback(mean(backend, now.fresh), None)[0]
    return repeat(backend, pulled, now.rank)


def _weighted(carried: float, fresh: float) -> Any:
    def gather(now: JointStep, pushed: Any, pulled: Any) -> tuple[Any, Any]:
        combine = now.backend.combine
        return once_each(now, combine((carried, pushed)), combine((fresh, pulled)))

    return gather


def _averaged(now: JointStep, new: Any, rates: Any) -> Any:
    return mix(now.backend, rates / now.rank, now.carry.cotangent)


def _new_pairs(now: JointStep, new: Any, rates: Any) -> Any:
    backend = now.backend
    state_gradient = now.pullback(None, 1.0)[1]
    row = coordinates(backend, repeat(backend, state_gradient, 1))[0]
    return mix(backend, coordinates(backend, new[0]) @ row, new[1])


def _no_variance(now: JointStep, parts: Parts, rows: Any) -> Any:
    return 0.0 * variance_of_rows(now, parts, rows)


def _dropped_variance(now: JointStep, parts: Parts, rows: Any) -> Any:
    """Compute the squares that a truncation drops."""
    return (parts.values[now.rank :] ** 2).sum()


def _joint(name: str, killed_by: str = "chain", **pieces: Any) -> Mutant:
    return Mutant(JointVariant(f"joint: {name}", **pieces), killed_by)


WRONG_JOINT: tuple[Mutant, ...] = (
    _joint("truncated SVD", rows=_strongest),
    _joint("truncated SVD, rescaled as a whole", rows=_strongest_for_all),
    _joint("tail not rescaled", rows=_not_rescaled),
    _joint("p that do not add up to k", rows=_cut_shares),
    _joint("σ on one side only", sign=_one_side),
    _joint("another σ on the other side", sign=_others_on_the_right),
    _joint("no σ", sign=_no_signs),
    _joint("σ the signs of the projections", sign=_signs_of_the_projections),
    _joint("σ of the step before", sign=_last_signs),
    _joint("σ for each pair, not each direction", sign=_signs_for_each_pair),
    _joint("singular vectors flipped apart", decompose=_flipped_apart),
    _joint("weak directions dropped", decompose=_weak_dropped),
    _joint("projections not divided by √k", project=_unscaled_projections),
    _joint("projections without signs", project=_unsigned_projections),
    _joint("projections uneven over the state", project=_uneven_projections),
    _joint("tangents not pushed", push=lambda now: now.carry.tangent),
    _joint("tangents pushed at the next state", push=_push_later),
    _joint("projections pulled at the next state", pull=_pull_later),
    _joint("projections pulled at stale params", pull=_pull_stale),
    _joint("one pullback for all projections", pull=_pull_one),
    _joint("carried pairs averaged", gather=_weighted(0.5, 1.0)),
    _joint("carried pairs dropped", gather=_weighted(0.0, 1.0)),
    _joint("fresh pairs added twice", gather=_weighted(1.0, 2.0)),
    _joint("gradient averaged over pairs", "gradient", through=_averaged),
    _joint("gradient from the new pairs", "gradient", through=_new_pairs),
    _joint("one place fewer than pairs", "variance", rows=_one_place_fewer),
    _joint("no variance reported", "variance", report=_no_variance),
    _joint("variance of a truncation reported", "variance", report=_dropped_variance),
)
"""Of rank two. They matter on states of three coordinates and more."""
