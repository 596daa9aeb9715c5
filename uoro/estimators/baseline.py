"""A baseline beside pairs: a control variate that takes the noise of what is local away.

Let B be any guess of the influence G, and B' the guess after the step, fixed before ν is drawn.
What is left, G - B, follows

    G' - B' = J (G - B) + (J B + I - B'),

the recursion of G with another fresh part. Pairs that estimate it are unbiased, and G is B plus
what they estimate. Their noise is that of G - B alone. A good guess that is cheap is the influence
of each entry of the params on the unit that it moves, in the recursion of
`uoro.estimators.local_influence`: B' = D B + E, with any estimate D of the diagonal of J that does
not know ν. With μ random signs, ``μ ∘ J μ`` is such an estimate, from one JVP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from uoro.algebra import entry
from uoro.arguments import mismatch, require_carry, require_choice, require_count, require_item
from uoro.backend import Backend, Distribution
from uoro.derivatives.finding_locality import find_locality
from uoro.dynamics import Dynamics, Moment
from uoro.errors import SettingError, spelled
from uoro.estimator import Guarantee, Sampler
from uoro.estimators.leftover import Leftover, Now, advance_baseline
from uoro.estimators.local_influence import (
    LocalInfluence,
    no_influence,
)
from uoro.prediction import Prediction, Stepping

Baseline: TypeAlias = Literal["diagonal"]
"""Kinds of baselines."""


class BesideBaseline(NamedTuple):
    """The carry of an estimator with a baseline.

    Attributes:
        pairs: Carry of the estimator: pairs that estimate what the baseline leaves over.
        baseline: B, the influence of params on their own units.
    """

    pairs: Any
    baseline: LocalInfluence


class BesideSigns(NamedTuple):
    """The random signs of a step.

    Attributes:
        signs: Those of the estimator.
        probes: A stack of trees of signs μ, for the diagonal of J.
    """

    signs: Any
    probes: Any


@dataclass(frozen=True)
class Beside(Stepping):
    """An estimator with the diagonal baseline beside its pairs.

    ``UORO(baseline="diagonal")`` and ``JointUORO(k, baseline="diagonal")`` make one.

    Args:
        estimator: An estimator whose pairs take a fresh part νᵀ ∂F/∂θ in at each step.
        probes: Number of random JVPs a step for each coordinate of a unit, p.
    """

    estimator: Any
    probes: int = 1
    needs_item: ClassVar[bool] = True

    @property
    def guarantee(self) -> Guarantee:
        """Return the guarantee of the estimator."""
        guarantee: Guarantee = self.estimator.guarantee
        return guarantee

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> BesideBaseline:
        """Return zero pairs and a baseline of zero.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`, or ``inputs`` is missing.
            StructureError: If a leaf of ``params`` or ``state`` is not an array.
            DerivativeError: If no derivative of the model is finite.
        """
        pairs = self.estimator.init(dynamics, params, state, inputs=inputs)
        name = type(self.estimator).__name__
        call = f"{name}(baseline='diagonal').init"
        require_item(call, inputs, "which units each entry of the params moves")
        locality = find_locality(dynamics, params, state, inputs)
        return BesideBaseline(pairs, no_influence(dynamics.backend, locality, params))

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw the signs of the estimator, and p trees more.

        They are one draw, as two draws of one sampler are the same numbers; `advance` parts them.
        """

        def wider(
            like: Any, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0
        ) -> Any:
            return sampler(like, distribution, (math.prod(batch) + self.probes,), stacked)

        return self.estimator.draw(wider, state)

    def advance(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: BesideBaseline,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[BesideBaseline, Any, Prediction]:
        """Advance baseline and pairs; the loss may come later.

        Args:
            dynamics: The model.
            params: θ.
            carry: Pairs and baseline.
            state: s_t.
            inputs: One item of the stream.
            signs: What `draw` returned, or `BesideSigns`.
        """
        require_carry(f"{type(self.estimator).__name__}.step", carry, BesideBaseline)
        if not isinstance(signs, BesideSigns):
            signs = self._parted(dynamics.backend, signs)
        now = self._now(dynamics, carry, Moment(params, state, inputs))
        after = self._follow(now, signs)
        pairs, state, made = self.estimator.advance(
            self._leftover(now, after), params, carry.pairs, state, inputs, signs.signs
        )
        return BesideBaseline(pairs, after), state, made

    def gradient(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: BesideBaseline,
        state: Any,
        inputs: Any,
        cotangent: Any,
    ) -> Any:
        """Estimate the gradient of a loss of a step's output, from what the step received."""
        leftover = self._leftover(self._now(dynamics, carry, Moment(params, state, inputs)), {})
        return self.estimator.gradient(leftover, params, carry.pairs, state, inputs, cotangent)

    def _parted(self, backend: Backend, drawn: Any) -> BesideSigns:
        """Part one draw into the signs of the estimator and the probes μ."""
        batches = list[tuple[int, ...]]()

        def note(
            like: Any, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0
        ) -> None:
            batches.append(batch)

        self.estimator.draw(note, None)
        own = math.prod(batches[0])
        signs = entry(backend, drawn, slice(0, own) if batches[0] else 0)
        probes = entry(backend, drawn, slice(own, None))
        return BesideSigns(signs, backend.map(partial(_sign, backend), probes))

    def _now(self, dynamics: Dynamics[Any, Any, Any], carry: BesideBaseline, point: Moment) -> Now:
        locality = find_locality(dynamics, *point)
        return Now(dynamics, locality, point, carry.baseline, dynamics.vjp(*point))

    def _follow(self, now: Now, signs: BesideSigns) -> LocalInfluence:
        """Return B'."""
        return advance_baseline(now, signs.probes)

    def _leftover(self, now: Now, after: LocalInfluence) -> Leftover:
        """Return the model in which the influence beyond the baseline is the influence."""
        return Leftover(now, after)


def _sign(backend: Backend, leaf: Any) -> Any:
    """Return the signs of the coordinates of a leaf, which are fair for any distribution of ν."""
    sign = backend.xp.sign
    return sign(leaf) if backend.parts(leaf) == 1 else sign(leaf.real) + 1j * sign(leaf.imag)


def require_baseline(call: str, baseline: Any, probes: Any) -> None:
    """Check the settings ``baseline`` and ``probes`` of an estimator.

    Raises:
        SettingError: If the baseline is unknown, or the number of probes is not positive.
    """
    if baseline is not None:
        require_choice(f"{call}(baseline={spelled(baseline)})", "baseline", baseline, ("diagonal",))
    require_count(f"{call}(probes={spelled(probes)})", "probes", probes)


def refuse_baseline(call: str, baseline: Any) -> None:
    """Raise where a baseline has no place.

    Raises:
        SettingError: If there is one.
    """
    if baseline is not None:
        expected = "an estimator without baseline, as it estimates a part of the influence"
        raise SettingError(mismatch(call, "", expected, f"baseline={spelled(baseline)}"))
