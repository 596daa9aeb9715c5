"""A second estimator at the same points of a run, as a reference for the gradient of the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from uoro.algebra import size, working_precision
from uoro.arguments import mismatch, require_count
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimate, Estimator, Guarantee, Sampler, guarantee_of, needs_item
from uoro.estimators import RTRL
from uoro.estimators.auto import require_estimator
from uoro.monitors.apart import draw_both, draws
from uoro.monitors.batches import Batches, add, start

LARGEST_INFLUENCE = 2**28
"""Largest number of entries of the influence of an exact shadow: 1 GiB in float32."""

SUMS = ("along", "error", "size")


class Samples(NamedTuple):
    """Samples of two gradients along a run: g̃ of the estimator, g of the shadow.

    Attributes:
        steps: Number of steps so far, an integer.
        batches: Sums of ``along``, <g̃ - g, g>, of ``error``, ‖g̃ - g‖², and of ``size``, ‖g‖².
        estimated: Running mean of g̃.
        shadowed: Running mean of g.
    """

    steps: Any
    batches: Batches
    estimated: Any
    shadowed: Any


class ShadowCarry(NamedTuple):
    """Carry of `Shadowed`.

    Attributes:
        estimator: Carry of the estimator.
        shadow: Carry of the shadow.
        samples: Samples so far.
    """

    estimator: Any
    shadow: Any
    samples: Samples


@dataclass(frozen=True)
class Shadowed:
    """Run an estimator, and beside it a second one, the shadow, for comparison only.

    Both see the same params, states and items. The gradient returned is that of the estimator, with
    the signs that it would draw alone. No number of a run changes, except by rounding where a
    compiler arranges the larger step differently. `shadow_report` reads the comparison. `Shadowed`
    follows a single stream.

    The signs are those of the estimator; if the shadow draws too, they are a dict of both,
    ``{"estimator": ..., "shadow": ...}``.

    Cost: the shadow at every step, whatever `every` is, as its carry must advance: n VJPs and an
    n × n by n × params product for `RTRL`, T VJPs for `RollingTruncated(T)`. In addition about six
    passes over arrays as large as the params, and twice the memory of the params.

    Args:
        estimator: Estimator of the run.
        shadow: Reference: `RTRL`, `RollingTruncated` for larger models, or another `UORO`, with
            independent signs.
        every: Number of steps from one comparison to the next.

    Raises:
        SettingError: If ``every`` is not a positive integer.

    Example:
        >>> from itertools import repeat
        >>> from uoro import RTRL, SGD, Learner, load_backend
        >>> from uoro.estimators import Truncated
        >>> from uoro.monitors import Shadowed, shadow_report
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> dynamics = backend.dynamics(lambda w, s, x: (w * s + x, xp.sum(w * s + x)))
        >>> learner = Learner(
        ...     dynamics, Shadowed(Truncated(), RTRL()), SGD(1e-9), xp.array(0.5), xp.zeros(1))
        >>> learner.run(repeat(1.0), steps=100).steps
        100
        >>> report = shadow_report(backend, learner.carry)
        >>> round(report["bias"], 2)  # truncation leaves out what w does to later states: 2 of 4
        -0.5
    """

    estimator: Estimator
    shadow: Estimator
    every: int = 1

    def __post_init__(self) -> None:
        call = f"Shadowed(every={self.every!r})"
        require_count(call, "every", self.every)
        for estimator in (self.estimator, self.shadow):
            require_estimator(call, estimator)

    @property
    def guarantee(self) -> Guarantee:
        """Guarantee of the estimator, which the shadow leaves as it is."""
        return guarantee_of(self.estimator)

    @property
    def needs_item(self) -> bool:
        """Return whether either carry is built by an item."""
        return needs_item(self.estimator) or needs_item(self.shadow)

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> ShadowCarry:
        """Return the carries of both, and no samples.

        Raises:
            SettingError: If the influence of an exact shadow would be too large.
        """
        backend = dynamics.backend
        units, numbers = size(backend, state), size(backend, params)
        if isinstance(self.shadow, RTRL) and units * numbers > LARGEST_INFLUENCE:
            raise SettingError(
                mismatch(
                    "Shadowed(shadow=RTRL())",
                    "",
                    f"an influence of at most {LARGEST_INFLUENCE:,} numbers",
                    f"{units} × {numbers:,} numbers",
                    "Try RollingTruncated(64), as the monitor 'shadow:window=64' does.",
                )
            )
        precision = working_precision(backend, params)
        mean, other = (backend.from_host(backend.zeros(params), dtype=precision) for _ in range(2))
        return ShadowCarry(
            self.estimator.init(dynamics, params, state, inputs=inputs),
            self.shadow.init(dynamics, params, state, inputs=inputs),
            Samples(backend.from_host(0), start(backend, SUMS, precision), mean, other),
        )

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw the signs that the estimator would draw alone, and others for the shadow."""
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
        """Advance both; return the next state and the estimate of the estimator."""
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
    """Discard the samples, of shadows within shadows too, and leave the run as it is."""
    zeros = backend.map(backend.xp.zeros_like, carry.samples)
    one = backend.map(backend.xp.ones_like, zeros.batches.length)
    inner = carry.estimator
    return ShadowCarry(
        restart(backend, inner) if isinstance(inner, ShadowCarry) else inner,
        carry.shadow,
        zeros._replace(batches=zeros.batches._replace(length=one)),
    )


def _compare(backend: Backend, samples: Samples, estimated: Any, shadowed: Any, every: int) -> Any:
    """Add one comparison at every ``every``-th step."""
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
