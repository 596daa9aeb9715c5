"""How much of a gradient estimate is noise, found without the exact gradient."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from uoro.algebra import differentiable, mix
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimators import Influence
from uoro.monitors.batches import on_host
from uoro.monitors.shadow import ShadowCarry


class GradientNoise(NamedTuple):
    """What a gradient estimate g̃ is made of. Each is unbiased, so that averages of many converge.

    Attributes:
        signal_squared: An estimate of ‖E g̃‖², which for UORO is ‖g‖²; by bad luck it is negative.
        noise_squared: An estimate of ``E ‖g̃ - E g̃‖²``, the trace of the covariance.
    """

    signal_squared: Any
    noise_squared: Any

    @property
    def relative_variance(self) -> float:
        """Noise over signal; NaN where the signal that was found is not positive.

        Of several estimates average both parts first: a mean of ratios is not the ratio of means.
        """
        signal, noise = float(self.signal_squared), float(self.noise_squared)
        return noise / signal if signal > 0 else math.nan


def rank_noise(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    carry: Influence[Any, Any],
    state: Any,
    inputs: Any,
) -> GradientNoise:
    """Estimate signal and noise of the gradient of ``UORO(rank=k)`` at one point, from its k pairs.

    The gradient is ``ḡ = ∂ℓ/∂θ + x̄``, the mean of k independent ``g_i = ∂ℓ/∂θ + x_i`` with
    ``x_i = (∂ℓ/∂s · s̃_i) θ̃_i``. Then

        noise² = Σ‖x_i - x̄‖² / (k (k - 1)),      signal² = ‖ḡ‖² - noise²

    are unbiased estimates of the variance of ``ḡ`` and of ``‖E ḡ‖²``, given params, states and
    items. A single pair has k times the noise². Under learning the pairs have acted on the params
    they then meet, and are independent in the limit of small rates alone.

    At one point, and with few pairs, this is a rough number: x is heavy-tailed. Average over
    points.

    Cost: one forward pass, one vjp, k jvps, and three passes over the k pairs. It compiles.

    Args:
        dynamics: The model.
        params: θ.
        carry: The stack of k ≥ 2 pairs from before the step.
        state: s_t.
        inputs: The item that this step consumes.

    Raises:
        SettingError: If there is one pair.

    References:
        Section 3.4 of the UORO paper for rank k.
    """
    backend = dynamics.backend
    pairs, single = differentiable(backend, carry.tangent)[0], differentiable(backend, state)[0]
    if len(pairs.shape) == len(single.shape) or pairs.shape[0] < 2:
        raise SettingError(
            "rank_noise(memory=...): there is a single pair, which does not show its noise. Take "
            "UORO(rank=2) or more, or the monitor 'noise:replicas=4'."
        )
    count = int(pairs.shape[0])
    # A pair may be kept in another dtype than the state's.
    like = backend.zeros(state, batch=(count,))
    tangents = backend.map(lambda wanted, kept: kept, like, carry.tangent)
    _, pullback = dynamics.vjp(params, state, inputs)
    immediate, _ = pullback(None, 1.0)
    rates = backend.vmap(lambda one: dynamics.jvp(params, state, inputs, one)[1])(tangents)
    carried = mix(backend, rates / count, carry.cotangent)
    gradient = backend.combine((1.0, immediate), (1.0, carried))

    def spread(rate: Any, cotangent: Any) -> Any:
        gap = backend.combine((rate, cotangent), (-1.0, carried))
        return backend.inner(gap, gap)

    noise = backend.vmap(spread)(rates, carry.cotangent).sum() / (count * (count - 1))
    return GradientNoise(backend.inner(gradient, gradient) - noise, noise)


def replica_noise(backend: Backend, carry: ShadowCarry, replicas: int) -> GradientNoise:
    """Estimate signal and noise of a gradient along a run, from independent replicas of it.

    Reads the memory of ``Shadowed(UORO(rank=k), UORO(rank=k * r))``: g̃ is the gradient that is
    used, ḡ the mean of r replicas of it, which run on the same params, states and items with
    signs of their own. Over the samples,

        signal² = mean <g̃, ḡ>,      noise² = r / (r + 1) · mean ‖g̃ - ḡ‖²

    are unbiased estimates of the means of ``‖E g̃‖²`` and of the variance of g̃, given params,
    states and items. Under learning g̃ has acted on the params, as no replica has: it is all exact
    in the limit of small rates alone.

    Cost: r more UOROs at every step of the run, and what `Shadowed` says besides.

    Args:
        backend: The backend of the memory.
        carry: As `Shadowed` carries it.
        replicas: r, how many times the estimator's rank the shadow's is.

    Returns:
        Python floats; NaN if there are no samples.
    """
    sums = on_host(backend, carry.samples.batches)
    along, error, square = (math.fsum(sums[name]) for name in ("along", "error", "size"))
    count = float(backend.to_host(carry.samples.batches.count))
    if not count:
        return GradientNoise(math.nan, math.nan)
    return GradientNoise((along + square) / count, error / count * replicas / (replicas + 1))


def name_noise(found: GradientNoise) -> dict[str, float]:
    """Give what was found as Python floats, by the names they are logged under."""
    return {
        "noise/signal_squared": float(found.signal_squared),
        "noise/noise_squared": float(found.noise_squared),
        "noise/relative_variance": found.relative_variance,
    }
