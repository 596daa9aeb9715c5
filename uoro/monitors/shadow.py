"""A second estimator at the same points of a run, to tell how good the first one's gradient is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from uoro.algebra import size, working_precision
from uoro.arguments import require_count
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimate, Estimator, Guarantee, Sampler
from uoro.estimators import RTRL
from uoro.monitors.apart import draw_both, draws
from uoro.monitors.batches import Batches, add, start

LARGEST_INFLUENCE = 2**28
"""How many numbers the influence of an exact shadow may have: 1 GiB in float32."""

SUMS = ("along", "error", "size")


class Samples(NamedTuple):
    """What is known of two gradients along a run: g̃ of the estimator, g of the shadow.

    Attributes:
        steps: Steps since the start; an integer.
        batches: Sums of ``along``, <g̃ - g, g>, of ``error``, ‖g̃ - g‖², and of ``size``, ‖g‖².
        estimated: Running mean of g̃.
        shadowed: Running mean of g.
    """

    steps: Any
    batches: Batches
    estimated: Any
    shadowed: Any


class ShadowCarry(NamedTuple):
    """What `Shadowed` carries.

    Attributes:
        estimator: The memory of the estimator.
        shadow: That of the shadow.
        samples: What was found so far.
    """

    estimator: Any
    shadow: Any
    samples: Samples


@dataclass(frozen=True)
class Shadowed:
    """Run an estimator as it would run alone, and another beside it that is only looked at.

    Both see the same params, states and items. The gradient given is that of the estimator, with
    the noise it would draw alone; no number of a run changes, but for rounding where a compiler
    arranges the larger step in another way. `shadow_report` reads what was found. One stream: for
    several, run one of them apart.

    The noise is the estimator's own, and where the shadow draws too, a dict of both,
    ``{"estimator": ..., "shadow": ...}``.

    Cost: that of the shadow at every step, as what it carries must be carried on, whatever `every`
    is: n pullbacks and an n × n by n × params product for `RTRL`, T pullbacks for
    `RollingTruncated(T)`. Besides about six passes over something as large as the params, and twice
    their memory.

    Args:
        estimator: The estimator in question.
        shadow: What it is compared with: `RTRL`, `RollingTruncated` for larger models, or another
            `UORO`, whose noise is independent.
        every: At how many steps there is one comparison.

    Raises:
        SettingError: If ``every`` is not a positive integer.

    Example:
        >>> from itertools import repeat
        >>> from uoro import RTRL, SGD, Learner, Truncated, load_backend
        >>> from uoro.monitors import Shadowed, shadow_report
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> dynamics = backend.dynamics(lambda w, s, x: (w * s + x, xp.sum(w * s + x)))
        >>> learner = Learner(
        ...     dynamics, Shadowed(Truncated(), RTRL()), SGD(1e-9), xp.array(0.5), xp.zeros(1))
        >>> learner.run(repeat(1.0), steps=100).steps
        100
        >>> report = shadow_report(backend, learner.carry)
        >>> round(report["bias"], 2)  # it has 2 of 4: what w does to later states is left out
        -0.5
    """

    estimator: Estimator
    shadow: Estimator
    every: int = 1

    def __post_init__(self) -> None:
        require_count(f"Shadowed(every={self.every!r})", "every", self.every)

    @property
    def guarantee(self) -> Guarantee:
        """What the estimator claims; the shadow changes nothing."""
        return self.estimator.guarantee

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> ShadowCarry:
        """Make both memories, and samples of nothing.

        Raises:
            SettingError: If the influence of an exact shadow would be too large.
        """
        backend = dynamics.backend
        units, numbers = size(backend, state), size(backend, params)
        if isinstance(self.shadow, RTRL) and units * numbers > LARGEST_INFLUENCE:
            raise SettingError(
                f"Shadowed(shadow=RTRL()): its influence would have {units} × {numbers:,} numbers, "
                f"and {LARGEST_INFLUENCE:,} are allowed. Shadow a smaller model, or take "
                "RollingTruncated(64), as the monitor 'shadow:window=64' does."
            )
        precision = working_precision(backend, params)
        mean, other = (backend.from_host(backend.zeros(params), dtype=precision) for _ in range(2))
        return ShadowCarry(
            self.estimator.init(dynamics, params, state, inputs=inputs),
            self.shadow.init(dynamics, params, state, inputs=inputs),
            Samples(backend.from_host(0), start(backend, SUMS, precision), mean, other),
        )

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw the estimator's noise as it would alone, and the shadow's apart from it."""
        if not draws(self.shadow):
            return self.estimator.draw(sampler, state)
        own, others = draw_both(self.estimator, self.shadow, sampler, state)
        return {"estimator": own, "shadow": others}

    def step(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: ShadowCarry,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[ShadowCarry, Any, Estimate]:
        """Advance both, and give what the estimator gives."""
        own, others = signs, None
        if draws(self.shadow):
            own, others = signs["estimator"], signs["shadow"]
        mine, after, estimate = self.estimator.step(
            dynamics, params, carry.estimator, state, inputs, own
        )
        its, _, shadowed = self.shadow.step(dynamics, params, carry.shadow, state, inputs, others)
        samples = _compare(
            dynamics.backend, carry.samples, estimate.gradient, shadowed.gradient, self.every
        )
        return ShadowCarry(mine, its, samples), after, estimate


def restart(backend: Backend, carry: ShadowCarry) -> ShadowCarry:
    """Forget the samples, of shadows within shadows too, and leave the run as it is."""
    zeros = backend.map(backend.xp.zeros_like, carry.samples)
    one = backend.map(backend.xp.ones_like, zeros.batches.length)
    inner = carry.estimator
    return ShadowCarry(
        restart(backend, inner) if isinstance(inner, ShadowCarry) else inner,
        carry.shadow,
        zeros._replace(batches=zeros.batches._replace(length=one)),
    )


def _compare(backend: Backend, samples: Samples, estimated: Any, shadowed: Any, every: int) -> Any:
    """Add one comparison, at every so many steps."""
    xp = backend.xp
    counts = samples.steps % every == 0
    gap = backend.combine((1.0, estimated), (-1.0, shadowed))
    sample = {
        "along": backend.inner(gap, shadowed),
        "error": backend.inner(gap, gap),
        "size": backend.inner(shadowed, shadowed),
    }
    batches = add(backend, samples.batches, sample, counts)

    def average(mean: Any, value: Any) -> Any:
        return xp.where(counts, mean + (value - mean) / batches.count, mean)

    return Samples(
        samples.steps + 1,
        batches,
        backend.map(average, samples.estimated, estimated),
        backend.map(average, samples.shadowed, shadowed),
    )
