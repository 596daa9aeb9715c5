"""Wrong estimators, one mistake each, with the check that must refuse it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from uoro_conformance.mutants.variants import (
    EPSILON,
    Mutant,
    Scales,
    Step,
    Variant,
    balanced,
    first_sign,
    in_turn,
    old_pair,
    pull_by_vjp,
    push_by_jvp,
    rhos,
    times,
)
from uoro_conformance.mutants.wrong_joint import WRONG_JOINT
from uoro_conformance.mutants.wrong_predictions import WRONG_PREDICTIONS
from uoro_conformance.mutants.wrong_wholes import OneCotangent, WrongOutcome, WrongRank

from uoro.algebra import basis, coordinates, entry, mix, norm, select
from uoro.dynamics import Moment
from uoro.estimators import UORO


def _one_side(now: Step, pushed: Any, pulled: Any) -> Scales:
    rho0, rho1 = rhos(now, pushed, pulled)
    return Scales(rho0, rho1, 1.0, 1.0)


def _multiplied(now: Step, pushed: Any, pulled: Any) -> Scales:
    rho0, rho1 = rhos(now, pushed, pulled)
    return Scales(rho0, rho1, rho0, rho1)


def _by_sign(now: Step, pushed: Any, pulled: Any) -> Scales:
    rho0, rho1 = rhos(now, pushed, pulled)
    rho1 = rho1 * (1.0 + 0.3 * first_sign(now))
    return Scales(rho0, rho1, 1.0 / rho0, 1.0 / rho1)


def _epsilon_one_side(now: Step, pushed: Any, pulled: Any) -> Scales:
    rho0, rho1 = rhos(now, pushed, pulled)
    return Scales(rho0, rho1, 1.0 / rho0, 1.0 / (rho1 - EPSILON))


def _diagonal(now: Step) -> Any:
    backend, tangent = now.backend, now.carry.tangent
    _, rows = backend.vmap(lambda row: now.pullback(row, None))(basis(backend, now.at.state))
    matrix = coordinates(backend, rows)
    diagonal = backend.xp.diagonal(matrix)
    lifted = backend.map(lambda leaf: leaf[None], tangent)
    return mix(backend, diagonal * coordinates(backend, lifted)[0], basis(backend, now.at.state))


def _transposed(now: Step) -> Any:
    return now.pullback(now.carry.tangent, None)[1]


def _later(now: Step) -> Moment:
    """Return the point one step later: the next state, with the same item."""
    return now.at._replace(state=now.next_state)


def _jvp_later(now: Step) -> Any:
    return now.dynamics.jvp(*_later(now), now.carry.tangent)[0]


def _vjp_later(now: Step) -> Any:
    return now.dynamics.vjp(*_later(now))[1](now.signs, None)[0]


def _block_missing(now: Step) -> Any:
    """Forget the last leaf of the params."""
    leaf_count = len(now.backend.named_leaves(now.at.params))
    numbers = iter(range(leaf_count))
    forgotten = leaf_count - 1 if leaf_count > 1 else 0
    return now.backend.map(
        lambda leaf: leaf * (0.0 if next(numbers) == forgotten else 1.0), pull_by_vjp(now)
    )


def _absolute(now: Step) -> Any:
    return now.backend.map(abs, pull_by_vjp(now))


def _no_signs_in_pull(now: Step) -> Any:
    return now.pullback(now.backend.map(lambda leaf: leaf * 0 + 1, now.signs), None)[0]


def _larger_if_equal(now: Step) -> Any:
    return times(now, lambda signs: 2.0 + signs * signs[0])


def _smaller_if_equal(now: Step) -> Any:
    """Divide by the factors of `_larger_if_equal`, as if they did not depend on the signs."""
    scaled = times(now, lambda signs: 1.0 / (2.0 + signs * signs[0]))
    return now.pullback(scaled, None)[0]


def _last_inner_step(now: Step) -> Any:
    """Pull the signs back through the last of the T steps of an unrolled dynamics alone."""
    backend, state = now.backend, now.at.state
    unrolled: Any = now.dynamics
    for step in range(unrolled.span - 1):
        item = entry(backend, now.at.inputs, step)
        state = unrolled.dynamics.forward(now.at.params, state, item).next_state
    last = entry(backend, now.at.inputs, unrolled.span - 1)
    return unrolled.dynamics.vjp(now.at.params, state, last)[1](now.signs, None)[0]


def _stale(now: Step) -> Any:
    _, pullback = now.dynamics.vjp(*now.at._replace(params=now.carry.params))
    return pullback(now.signs, None)[0]


def _scaled(factor: float, piece: Callable[[Step], Any]) -> Callable[[Step], Any]:
    return lambda now: now.backend.combine((factor, piece(now)))


def _clipped(piece: Callable[[Step], Any]) -> Callable[[Step], Any]:
    def clip(now: Step) -> Any:
        whole = piece(now)
        length: Any = norm(now.backend, whole)
        return now.backend.combine((1.0 / (1.0 + length), whole))

    return clip


def _where(now: Step, condition: Any, chosen: Any, otherwise: Any) -> Any:
    """Select one of two trees by a scalar condition."""
    backend = now.backend
    lift = partial(backend.map, lambda leaf: leaf[None])
    picked = select(backend, condition.reshape((1,)), lift(chosen), lift(otherwise))
    return backend.map(lambda leaf: leaf[0], picked)


def _cut(every: int) -> Callable[[Step, Any, Any], Any]:
    def keep(now: Step, old: Any, new: Any) -> Any:
        at = (now.carry.clock + 1) % every == 0
        zero = tuple(now.backend.zeros(part) for part in new)
        return tuple(_where(now, at, z, part) for z, part in zip(zero, new, strict=True))

    return keep


def _detached_once(now: Step, old: Any, new: Any) -> Any:
    at = now.carry.clock == 1
    return new[0], _where(now, at, now.backend.zeros(new[1]), new[1])


def _decayed(now: Step, old: Any, new: Any) -> Any:
    return now.backend.combine((0.99, new[0])), new[1]


def _not_carried(now: Step, old: Any, new: Any) -> Any:
    return tuple(now.backend.zeros(part) for part in new)


def _not_updated(now: Step, old: Any, new: Any) -> Any:
    return new[0], now.backend.combine((1.0, new[1]), (-0.5, old[1]))


def _no_signs_in_tangent(now: Step, pushed: Any, pulled: Any) -> Scales:
    scales = balanced(now, pushed, pulled)
    return scales._replace(b=0.0)


def _new_pair(now: Step, new: Any, state_gradient: Any) -> Any:
    return now.backend.combine((now.backend.inner(state_gradient, new[0]), new[1]))


def _mixed_pair(now: Step, new: Any, state_gradient: Any) -> Any:
    return now.backend.combine((now.backend.inner(state_gradient, now.carry.tangent), new[1]))


def _clipped_if_large(now: Step, new: Any, state_gradient: Any) -> Any:
    whole: Any = old_pair(now, new, state_gradient)
    length: Any = norm(now.backend, whole)
    return now.backend.combine((100.0 / (100.0 + (length > 100.0) * (length - 100.0)), whole))


def _wrong(name: str, killed_by: str = "chain", **pieces: Any) -> Mutant:
    return Mutant(Variant(name, **pieces), killed_by)


WRONG: tuple[Mutant, ...] = (
    _wrong("ρ on one side only", scales=_one_side),
    _wrong("ρ multiplied where it must divide", scales=_multiplied),
    _wrong("ρ depends on a sign of ν", "equivariance", scales=_by_sign),
    _wrong("ε on one side only", scales=_epsilon_one_side),
    _wrong("jvp omitted", push=lambda now: now.backend.zeros(now.at.state)),
    _wrong("jvp replaced by the identity", push=lambda now: now.carry.tangent),
    _wrong("jvp of the Jacobian's diagonal", push=_diagonal),
    _wrong("jvp transposed", push=_transposed),
    _wrong("jvp taken at the next state", push=_jvp_later),
    _wrong("jvp scaled by 1 %", push=_scaled(1.01, push_by_jvp)),
    _wrong("jvp clipped", push=_clipped(push_by_jvp)),
    _wrong("vjp taken at the next state", pull=_vjp_later),
    _wrong("vjp misses a block of params", pull=_block_missing),
    _wrong("vjp scaled by 1 %", pull=_scaled(1.01, pull_by_vjp)),
    _wrong("vjp clipped", pull=_clipped(pull_by_vjp)),
    _wrong("vjp made positive", pull=_absolute),
    _wrong("vjp at stale params", pull=_stale),
    _wrong("ν missing from the tangent", scales=_no_signs_in_tangent),
    _wrong("ν missing from the cotangent", pull=_no_signs_in_pull),
    _wrong("ν scaled on the side of the state alone", fresh=lambda now: times(now, in_turn)),
    _wrong("ν scaled by what depends on ν", fresh=_larger_if_equal, pull=_smaller_if_equal),
    _wrong("pair cut every 2 steps", keep=_cut(2)),
    _wrong("pair cut every 3 steps", keep=_cut(3)),
    _wrong("pair detached once", keep=_detached_once),
    _wrong("pair not carried", keep=_not_carried),
    _wrong("pair mixed with the old one", keep=_not_updated),
    _wrong("pair decays by 0.99", keep=_decayed),
    _wrong("gradient from the new pair", "gradient", through=_new_pair),
    _wrong("gradient from a mixed pair", "gradient", through=_mixed_pair),
    _wrong("gradient without the immediate term", "gradient", immediate=False),
    Mutant(WrongRank("rank 2: product of means", "product of means"), "gradient"),
    Mutant(WrongRank("rank 2: cross-rank", "cross"), "gradient"),
    Mutant(WrongRank("rank 2: sum for mean", "sum"), "gradient"),
    Mutant(Variant("memory-2: only the last inner step", pull=_last_inner_step), "chain", span=2),
    Mutant(OneCotangent(UORO(), 2), "streams"),
    Mutant(WrongOutcome("state not advanced", lambda b, old, new, loss: (old, loss)), "outcome"),
    Mutant(WrongOutcome("loss doubled", lambda b, old, new, loss: (new, 2.0 * loss)), "outcome"),
    _wrong("gradient clipped where it is large", "gradient", through=_clipped_if_large),
    *(Mutant(estimator, "prediction") for estimator in WRONG_PREDICTIONS),
    *WRONG_JOINT,
)
