"""Wrong baselines, one mistake each. `check_mean_beside` must refuse all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.estimators.baseline import Beside, BesideSigns
from uoro.estimators.leftover import Leftover, Now, advance_baseline
from uoro.estimators.local_influence import LocalInfluence, through_local
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


class _ReadWrongly(Leftover):
    """A further part of the gradient is read from the baseline."""

    def __init__(self, now: Now, after: LocalInfluence, parts: Any) -> None:
        super().__init__(now, after)
        self._parts = parts

    def vjp(self, params: Any, state: Any, inputs: Any) -> Any:
        outcome, right = super().vjp(params, state, inputs)
        backend, now = self.backend, self._now

        def pullback(state_cotangent: Any, output_cotangent: Any) -> Any:
            by_params, by_state = right(state_cotangent, output_cotangent)
            if state_cotangent is None:
                wrong = [
                    (by, through_local(backend, now.locality, params, now.baseline, c))
                    for by, c in self._parts(backend, by_state)
                ]
                by_params = backend.combine((1.0, by_params), *wrong)
            return by_params, by_state

        return outcome, pullback


class _Doubled(Beside):
    """The baseline counts twice in the gradient."""

    def _leftover(self, now: Now, after: LocalInfluence) -> Leftover:
        return _ReadWrongly(now, after, lambda backend, c: [(1.0, c)])


class _OfNeighbours(Beside):
    """The gradient reads the baseline of an entry by the coordinate of the next unit."""

    def _leftover(self, now: Now, after: LocalInfluence) -> Leftover:
        def parts(backend: Any, c: Any) -> Any:
            roll = backend.xp.concatenate
            return [(-1.0, c), (1.0, backend.map(lambda leaf: roll([leaf[1:], leaf[:1]]), c))]

        return _ReadWrongly(now, after, parts)


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
