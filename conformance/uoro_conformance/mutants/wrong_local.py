"""Wrong baselines, one mistake each. `check_mean_beside` must refuse all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.estimators.baseline import Beside, BesideSigns
from uoro.estimators.leftover import Leftover, Now, advance_baseline
from uoro.estimators.local_influence import LocalInfluence, own_pairs, through_local
from uoro.estimators.uoro import UORO


class _DrawnFromNu(Beside):
    """The diagonal of J is estimated from ν itself."""

    def _follow(self, now: Now, signs: BesideSigns) -> LocalInfluence:
        backend = now.dynamics.backend
        return advance_baseline(now, backend.map(lambda leaf: leaf[None], signs.signs))


class _Stale(Beside):
    """The pairs are told of yesterday's baseline in place of today's."""

    def _leftover(self, now: Now, after: LocalInfluence) -> Leftover:
        return super()._leftover(now, now.baseline)


class _NotPushed(Beside):
    """The pairs are not told of J B."""

    def _leftover(self, now: Now, after: LocalInfluence) -> Leftover:
        nothing = now.dynamics.backend.map(lambda leaf: 0.0 * leaf, now.baseline)
        return super()._leftover(now._replace(baseline=nothing), after)


class _NotSubtracted(Beside):
    """The pairs are not told of B'."""

    def _leftover(self, now: Now, after: LocalInfluence) -> Leftover:
        return super()._leftover(now, now.dynamics.backend.map(lambda leaf: 0.0 * leaf, after))


class _Doubled(Beside):
    """The baseline counts twice in the gradient."""

    def advance(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> Any:
        now = dynamics, params, carry, state, inputs, signs
        after, state_after, made = super().advance(*now)
        backend, right = dynamics.backend, made.pull
        locality = self._locality(dynamics, params, state, inputs)

        def pull(cotangent: Any) -> Any:
            _, c = dynamics.vjp(params, state, inputs)[1](None, cotangent)
            pairs = own_pairs(locality)
            again = through_local(backend, locality, pairs, params, carry.baseline, c)
            return backend.combine((1.0, right(cotangent)), (1.0, again))

        made.pull = pull
        return after, state_after, made


class _OfNeighbours(Beside):
    """The gradient reads the baseline of an entry by the coordinate of the next unit."""

    def advance(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> Any:
        now = dynamics, params, carry, state, inputs, signs
        after, state_after, made = super().advance(*now)
        backend, right = dynamics.backend, made.pull
        locality = self._locality(dynamics, params, state, inputs)

        def pull(cotangent: Any) -> Any:
            _, c = dynamics.vjp(params, state, inputs)[1](None, cotangent)
            next_unit = backend.map(lambda leaf: backend.xp.concatenate([leaf[1:], leaf[:1]]), c)
            right_part, wrong_part = (
                through_local(backend, locality, own_pairs(locality), params, carry.baseline, each)
                for each in (c, next_unit)
            )
            return backend.combine((1.0, right(cotangent)), (-1.0, right_part), (1.0, wrong_part))

        made.pull = pull
        return after, state_after, made


@dataclass(frozen=True)
class _Wrong(UORO):
    """UORO beside a wrong baseline."""

    baseline: Any = "diagonal"
    beside: type[Beside] = Beside

    @property
    def _beside(self) -> Any:
        return self.beside(UORO(), self.probes)


WRONG_BASELINES: dict[str, UORO] = {
    "D from ν itself": _Wrong(beside=_DrawnFromNu),
    "yesterday's baseline today": _Wrong(beside=_Stale),
    "without J B": _Wrong(beside=_NotPushed),
    "without B'": _Wrong(beside=_NotSubtracted),
    "counted twice": _Wrong(beside=_Doubled),
    "read by the neighbour": _Wrong(beside=_OfNeighbours),
}
"""Wrong estimators with a baseline, by what is wrong."""
