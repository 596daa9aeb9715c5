"""The report on the samples of a shadow, read on the host."""

from __future__ import annotations

import math
from typing import Any

from uoro.algebra import norm
from uoro.backend import Backend
from uoro.monitors.batches import Batches, on_host, ratio
from uoro.monitors.shadow import Samples, ShadowCarry


def shadow_report(backend: Backend, carry: ShadowCarry) -> dict[str, float]:
    """Compare the estimator's gradient g̃ with the shadow's g, over all samples so far.

    With sums over the samples, and means of gradients over the samples,

    - ``cosine`` is ``Σ<g̃, g> / sqrt(Σ‖g̃‖² Σ‖g‖²)``;
    - ``cosine_of_means`` is the cosine of mean g̃ and mean g, which a slow learner adds up;
    - ``relative_variance`` is ``Σ‖g̃ - g‖² / Σ‖g‖²``, the variance of g̃ about g, bias included;
    - ``bias`` is ``Σ<g̃ - g, g> / Σ‖g‖²``: the excess of g̃ along g, as a fraction of g; -1 if g̃ is
      independent of g. ``bias_low`` and ``bias_high`` are the ends of the 95 % interval;
    - ``samples`` is the number of samples.

    The interval is that of batch means; `uoro.monitors.batches.ratio` lists the assumptions. UORO's
    samples are heavy-tailed and depend on earlier samples, as far back as the model remembers. The
    interval is reliable once the run is about a hundred times longer than that, and too narrow
    before.

    The bias is relative to the gradient of the shadow: exact if the shadow is `RTRL`, biased itself
    if the shadow is truncated. With a noisy shadow, such as another UORO, g̃ is independent of the
    noise and ``Σ‖g‖²`` is not, so the bias comes out too low.

    While parameters move, the influence of RTRL and the pair of UORO are mixtures of old and new
    parameters, and UORO is unbiased for RTRL only in the limit of small learning rates. At a large
    learning rate, an interval without zero is no proof of a mistake.

    Cost: a few vectors of 32 numbers to the host, and three passes over the params.

    Args:
        backend: Backend of the carry.
        carry: Carry of `Shadowed`; with shadows within shadows, the outer shadow is reported.

    Returns:
        Python floats; NaN where samples are missing or not finite.
    """
    return read_report(backend, carry.samples.batches, look_at_means(backend, carry.samples))


def look_at_means(backend: Backend, samples: Samples) -> tuple[Any, Any, Any]:
    """Return the norms of mean g̃ and mean g, and their inner product. Compiles."""
    mine, its = samples.estimated, samples.shadowed
    return norm(backend, mine), norm(backend, its), backend.inner(mine, its)


def read_report(
    backend: Backend, batches: Batches, means: tuple[Any, Any, Any]
) -> dict[str, float]:
    """Return the report, from batches and from the result of `look_at_means`."""
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
    """Return a product over the root of two squares; NaN unless both are positive."""
    if not (square > 0 and other > 0):
        return math.nan
    return product / math.sqrt(square) / math.sqrt(other)
