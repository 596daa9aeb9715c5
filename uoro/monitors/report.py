"""What the samples of a shadow say of a gradient, read on the host."""

from __future__ import annotations

import math
from typing import Any

from uoro.algebra import norm
from uoro.backend import Backend
from uoro.monitors.batches import Batches, on_host, ratio
from uoro.monitors.shadow import Samples, ShadowCarry


def shadow_report(backend: Backend, carry: ShadowCarry) -> dict[str, float]:
    """Compare the estimator's gradient g̃ with the shadow's g, over all samples so far.

    With sums over the samples, and means of gradients over them,

    - ``cosine`` is ``Σ<g̃, g> / sqrt(Σ‖g̃‖² Σ‖g‖²)``;
    - ``cosine_of_means`` is that of mean g̃ with mean g: of what a slow learner adds up;
    - ``relative_variance`` is ``Σ‖g̃ - g‖² / Σ‖g‖²``: of g̃ about g, its bias included;
    - ``bias`` is ``Σ<g̃ - g, g> / Σ‖g‖²``: by what part of g, along g, g̃ is too long; -1 where
      g̃ does not know of g at all. ``bias_low`` and ``bias_high`` are the ends of its 95 % interval;
    - ``samples`` is how many there are.

    The interval is by batch means (`uoro.monitors.batches.ratio` says what that assumes). UORO's
    samples are heavy-tailed and depend on those before them, as far as the model remembers: the
    interval is honest once the run is some hundred times as long as that, and too narrow before.

    The bias is relative to what the shadow gives. That is the gradient of exact RTRL if the shadow
    is `RTRL`, and something biased itself if it is truncated. Where the shadow is noisy, as another
    UORO is, g̃ is independent of its noise and ``Σ‖g‖²`` is not: the bias then comes out too low.

    While parameters move, the influence that RTRL carries and the pair of UORO are mixtures of
    old and new parameters, and UORO is unbiased for RTRL only in the limit of small learning rates:
    an interval beside zero at a large rate need not be a mistake.

    Costs a few vectors of 32 numbers, brought to the host, and three passes over the params.

    Args:
        backend: The backend of the memory.
        carry: As `Shadowed` carries it; of shadows within shadows the outer.

    Returns:
        Python floats; NaN for what is not determined, by no samples or by numbers not finite.
    """
    return read_report(backend, carry.samples.batches, look_at_means(backend, carry.samples))


def look_at_means(backend: Backend, samples: Samples) -> tuple[Any, Any, Any]:
    """Take the norms of mean g̃ and of mean g, and their inner product; to be compiled."""
    mine, its = samples.estimated, samples.shadowed
    return norm(backend, mine), norm(backend, its), backend.inner(mine, its)


def read_report(
    backend: Backend, batches: Batches, means: tuple[Any, Any, Any]
) -> dict[str, float]:
    """Put a report together from the batches, and from what `look_at_means` gives."""
    sums = on_host(backend, batches)
    along, error, size = (_total(sums[name]) for name in ("along", "error", "size"))
    bias = ratio(sums["along"], sums["size"])
    mine, its, together = (float(value) for value in means)
    return {
        "samples": float(backend.to_host(batches.count)),
        "cosine": _cosine(along + size, error + 2 * along + size, size),
        "cosine_of_means": _cosine(together, mine * mine, its * its),
        "relative_variance": error / size if size else math.nan,
        "bias": bias.value,
        "bias_low": bias.low,
        "bias_high": bias.high,
    }


def _total(values: list[float]) -> float:
    return math.fsum(values) if all(map(math.isfinite, values)) else math.nan


def _cosine(product: float, square: float, other: float) -> float:
    """Divide by the square root of two squares, where both are positive."""
    if not (square > 0 and other > 0):
        return math.nan
    return product / math.sqrt(square) / math.sqrt(other)
