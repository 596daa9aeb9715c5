"""Noise of a gradient estimate, without the exact gradient."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from uoro.algebra import differentiable, mix
from uoro.arguments import mismatch
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimators import Influence
from uoro.monitors.batches import on_host
from uoro.monitors.shadow import ShadowCarry


class GradientNoise(NamedTuple):
    """Signal and noise of a gradient estimate g̃, both unbiased: averages of many converge.

    Attributes:
        signal_squared: Estimate of ‖E g̃‖², which is ‖g‖² for UORO; a single estimate can be
            negative.
        noise_squared: Estimate of ``E ‖g̃ - E g̃‖²``, the trace of the covariance.
    """

    signal_squared: Any
    noise_squared: Any

    @property
    def relative_variance(self) -> float:
        """Ratio of noise to signal; NaN if the estimated signal is not positive.

        With several estimates, average both parts before dividing: a mean of ratios is biased.
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
    items. A single pair has k times the noise². During learning, the params depend on the pairs,
    which are then independent only in the limit of small learning rates.

    At a single point and with few pairs, the estimate is rough, as x is heavy-tailed. Average over
    points.

    Cost: one forward pass, one VJP, k JVPs, and three passes over the k pairs. The function
    compiles.

    Args:
        dynamics: Model.
        params: θ.
        carry: Stack of k ≥ 2 pairs before the step.
        state: s_t, the hidden state.
        inputs: Item that the step consumes.

    Raises:
        SettingError: If there is one pair only.

    References:
        Section 3.4 of the UORO paper for rank k.
    """
    backend = dynamics.backend
    pairs, single = differentiable(backend, carry.tangent)[0], differentiable(backend, state)[0]
    if len(pairs.shape) == len(single.shape) or pairs.shape[0] < 2:
        got = "a single pair, which does not show its noise"
        hint = "Use UORO(rank=2), or the monitor 'noise:replicas=4'."
        raise SettingError(mismatch("rank_noise(carry=...)", "", "two pairs or more", got, hint))
    count = int(pairs.shape[0])
    # The storage dtype of a pair may differ from the dtype of the state.
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
    """Estimate signal and noise of a gradient along a run, from independent replicas.

    Reads the carry of ``Shadowed(UORO(rank=k), UORO(rank=k * r))``: g̃ is the gradient in use, ḡ the
    mean of r replicas, which run on the same params, states and items with their own signs. Over
    the samples,

        signal² = mean <g̃, ḡ>,      noise² = r / (r + 1) · mean ‖g̃ - ḡ‖²

    are unbiased estimates of the means of ``‖E g̃‖²`` and of the variance of g̃, given params,
    states and items. During learning, the params depend on g̃ but on no replica, so both are
    unbiased only in the limit of small learning rates.

    Cost: r more UOROs at every step of the run, and the overhead of `Shadowed`.

    Args:
        backend: Backend of the carry.
        carry: Carry of `Shadowed`.
        replicas: r, the rank of the shadow divided by the rank of the estimator.

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
    """Return Python floats by the names that a log uses."""
    return {
        "noise/signal_squared": float(found.signal_squared),
        "noise/noise_squared": float(found.noise_squared),
        "noise/relative_variance": found.relative_variance,
    }
