"""Wrong estimators, one mistake each, with the check that must refuse it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

from uoro.algebra import basis, coordinates, entry, mean, mix, norm, repeat, select, shift
from uoro.backend import Backend
from uoro.dynamics import Moment
from uoro.estimator import Estimate, Guarantee, Sampler
from uoro.estimators import UORO
from uoro.estimators.streams import Streams


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
    """Undo `_larger_if_equal`, as one who takes a scaling of signs for one of coordinates."""
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
    """Pick one of two trees by a scalar condition."""
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


@dataclass(frozen=True)
class Differenced:
    """Dynamics whose jvp is a difference quotient, with a step that forgets the dtype.

    In float32 a step of 1e-7 leaves mostly rounding. Several public implementations do that.
    """

    dynamics: Any
    h: float = 1e-7
    span: int = 1

    @property
    def backend(self) -> Backend:
        """The backend of the dynamics."""
        backend: Backend = self.dynamics.backend
        return backend

    def forward(self, params: Any, state: Any, inputs: Any) -> Any:
        """Take one step."""
        return self.dynamics.forward(params, state, inputs)

    def vjp(self, params: Any, state: Any, inputs: Any) -> Any:
        """Give the true pullback."""
        return self.dynamics.vjp(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> Any:
        """Give ``(F(s + h s̃) - F(s)) / h``."""
        combine = self.backend.combine
        here = self.dynamics.forward(params, state, inputs)
        moved = shift(self.backend, state, self.h, state_tangent)
        there = self.dynamics.forward(params, moved, inputs)
        quotient = combine((1.0 / self.h, there.next_state), (-1.0 / self.h, here.next_state))
        return quotient, (there.loss - here.loss) / self.h


@dataclass(frozen=True)
class WrongRank:
    """Two pairs whose gradients are put together wrongly.

    Args:
        name: What is wrong.
        how: ``"product of means"``, ``"cross"`` or ``"sum"``.
    """

    name: str
    how: str
    rank: int = 2

    @property
    def guarantee(self) -> Guarantee:
        """It claims it."""
        return "unbiased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Any:
        """Make zero pairs."""
        return UORO(rank=2).init(dynamics, params, state)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw ν for each."""
        return UORO(rank=2).draw(sampler, state)

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Advance as rank two does, and combine wrongly."""
        backend = dynamics.backend
        after, next_state, estimate = UORO(rank=2).step(
            dynamics, params, carry, state, inputs, signs
        )
        immediate, state_gradient = dynamics.vjp(params, state, inputs)[1](None, 1.0)
        lifted = backend.map(lambda leaf: leaf[None], state_gradient)
        rates = coordinates(backend, carry.tangent) @ coordinates(backend, lifted)[0]
        if self.how == "sum":
            through = mix(backend, rates, carry.cotangent)
        elif self.how == "cross":
            through = mix(backend, backend.xp.flip(rates, (0,)) / 2, carry.cotangent)
        else:
            averaged = mean(backend, carry.cotangent)
            through = backend.combine((rates.mean(), averaged))
        gradient = backend.combine((1.0, immediate), (1.0, through))
        return after, next_state, estimate._replace(gradient=gradient)


@dataclass(frozen=True)
class WrongOutcome:
    """Algorithm 1 that passes something else on than the model gave.

    Args:
        name: What is wrong.
        change: From the old state, the next one and the loss to what is passed on.
    """

    name: str
    change: Callable[[Backend, Any, Any, Any], tuple[Any, Any]]

    @property
    def guarantee(self) -> Guarantee:
        """It claims it."""
        return "unbiased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Any:
        """Make the zero pair."""
        return UORO().init(dynamics, params, state)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw ν."""
        return UORO().draw(sampler, state)

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Advance, and change what is passed on."""
        after, following, estimate = UORO().step(dynamics, params, carry, state, inputs, signs)
        following, loss = self.change(dynamics.backend, state, following, estimate.loss)
        return after, following, estimate._replace(loss=loss)


@dataclass(frozen=True)
class OneCotangent(Streams):
    """Streams that share one cotangent: unbiased, but noisier, and not what each is alone."""

    name: str = "streams share one cotangent"

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Advance, and give every stream the mean cotangent."""
        after, next_state, estimate = super().step(dynamics, params, carry, state, inputs, signs)
        shared = mean(dynamics.backend, after.cotangent)
        after = after._replace(cotangent=repeat(dynamics.backend, shared, self.count))
        return after, next_state, estimate


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
    _wrong("gradient without the direct term", "gradient", immediate=False),
    Mutant(WrongRank("rank 2: product of means", "product of means"), "gradient"),
    Mutant(WrongRank("rank 2: cross-rank", "cross"), "gradient"),
    Mutant(WrongRank("rank 2: sum for mean", "sum"), "gradient"),
    Mutant(Variant("memory-2: only the last inner step", pull=_last_inner_step), "chain", span=2),
    Mutant(OneCotangent(UORO(), 2), "streams"),
    Mutant(WrongOutcome("state not advanced", lambda b, old, new, loss: (old, loss)), "outcome"),
    Mutant(WrongOutcome("loss doubled", lambda b, old, new, loss: (new, 2.0 * loss)), "outcome"),
    _wrong("gradient clipped where it is large", "gradient", through=_clipped_if_large),
    *WRONG_JOINT,
)
