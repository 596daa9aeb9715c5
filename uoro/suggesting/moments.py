"""Bias and noise of a gradient, from inner products of replicas and of a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

Products: TypeAlias = Sequence[Sequence[float]]
"""Inner products of replicas, summed over steps."""


class Part(NamedTuple):
    """An estimate from all replicas, and its standard error."""

    value: float
    error: float


class Moments(NamedTuple):
    """The bias and the noise of a gradient, relative to the exact gradient.

    Attributes:
        bias: ``Σ‖E g̃ - g‖² / Σ‖g‖²`` over the steps. An unbiased estimate, which may be negative.
        noise: ``Σ E‖g̃ - E g̃‖² / Σ‖g‖²``, the relative variance.
    """

    bias: Part
    noise: Part


def moments_of(products: Products) -> Moments:
    """Estimate bias and noise from the products of errors.

    With two independent references r and r', which are one where the reference is exact, the
    rows are the errors ``g̃_i - r`` of the replicas, then ``r' - r``, then r. Products of
    different replicas with different references have the squared bias as their mean. The standard
    errors are those of the jackknife over replicas; a single gradient without noise has none but
    that of the reference.

    Args:
        products: Inner products of these rows, summed over steps.
    """
    count = len(products) - 2
    apart = products[count]
    size = products[-1][-1] + products[-1][count]
    if not size > 0:
        return Moments(Part(math.nan, math.nan), Part(math.nan, math.nan))
    of_reference = abs(apart[count]) / (4 * size)
    errors = [list(row[:count]) for row in products[:count]]
    # ⟨g̃_i - r, g̃_k - r'⟩, made symmetric.
    crossed = [
        [errors[i][k] - (products[i][count] + products[k][count]) / 2 for k in range(count)]
        for i in range(count)
    ]
    if count == 1:
        return Moments(Part(crossed[0][0] / size, of_reference), Part(0.0, 0.0))
    bias = jackknife(_across, crossed)
    noise = jackknife(lambda some: _own(some) - _across(some), errors)
    return Moments(
        Part(bias.value / size, math.hypot(bias.error / size, of_reference)),
        Part(noise.value / size, noise.error / size),
    )


def signal(products: Products) -> Part:
    """Estimate ``Σ‖g‖²``: the mean of ``S_ij`` over i ≠ j."""
    return jackknife(_across, products)


def relative_noise(products: Products, signal: Part) -> Part:
    """Estimate ``Σ E‖g̃ - g‖² / Σ‖g‖²``; NaN if the signal cannot be told from 0."""
    if not signal.value > 2 * signal.error:
        return Part(math.nan, math.nan)
    spread = jackknife(lambda some: _own(some) - _across(some), products)
    relative = spread.value / signal.value
    return Part(relative, math.hypot(spread.error, relative * signal.error) / signal.value)


def jackknife(statistic: Callable[[Products], float], products: Products) -> Part:
    """Return a statistic with its standard error, by the jackknife over replicas."""
    count = len(products)
    if count < 3:
        return Part(statistic(products), math.nan)
    without = []
    for left_out in range(count):
        kept = [i for i in range(count) if i != left_out]
        without.append(statistic([[products[i][j] for j in kept] for i in kept]))
    middle = math.fsum(without) / count
    squares = math.fsum((value - middle) ** 2 for value in without)
    return Part(statistic(products), math.sqrt((count - 1) / count * squares))


def _own(products: Products) -> float:
    return math.fsum(row[i] for i, row in enumerate(products)) / len(products)


def _across(products: Products) -> float:
    count = len(products)
    others = (value for i, row in enumerate(products) for j, value in enumerate(row) if i != j)
    return math.fsum(others) / (count * (count - 1))
