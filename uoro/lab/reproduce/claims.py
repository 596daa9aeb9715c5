"""Claims of the paper, the measurements, and the verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from uoro.monitors.student import student

Verdict: TypeAlias = Literal["holds", "does not hold", "not decided at this scale"]

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]

UNDECIDED: Verdict = "not decided at this scale"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, compared with measurements.

    Attributes:
        sentence: Claim.
        support: Measurements, in words and numbers, with the threshold.
        verdict: Verdict.
    """

    sentence: str
    support: str
    verdict: Verdict


def judge(holds: bool, fails: bool) -> Verdict:
    """Return a verdict; undecided if the claim neither holds nor fails."""
    return "holds" if holds else "does not hold" if fails else UNDECIDED


def not_run(*sentences: str) -> list[Claim]:
    """Return undecided claims without measurements."""
    return [Claim(each, "It was not run.", UNDECIDED) for each in sentences]


def settled(claims: list[Claim], done: int, wanted: int) -> list[Claim]:
    """Return the claims, all undecided while runs are missing."""
    if done >= wanted:
        return claims
    note = f" Incomplete: {done} of {wanted} runs are done."
    return [Claim(one.sentence, one.support + note, UNDECIDED) for one in claims]


@dataclass(frozen=True)
class Slope:
    """Slope of a straight line through points, with its 95 % interval.

    Attributes:
        value: Least-squares slope.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def slope(x: list[float], y: list[float]) -> Slope:
    """Fit a line; the interval allows for unequal variances (HC3).

    Args:
        x: Abscissae, at least four.
        y: Ordinates.

    References:
        MacKinnon & White, "Some heteroskedasticity-consistent covariance matrix estimators with
        improved finite sample properties", 1985.
    """
    design = np.stack([np.ones(len(x)), np.asarray(x)], 1)
    values = np.asarray(y)
    inverse = np.linalg.inv(design.T @ design)
    fitted = inverse @ design.T @ values
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    squares = ((values - design @ fitted) / (1 - leverage)) ** 2
    covariance = inverse @ (design.T * squares) @ design @ inverse
    half = student(len(x) - 2) * math.sqrt(covariance[1, 1])
    return Slope(float(fitted[1]), float(fitted[1] - half), float(fitted[1] + half))


def slope_in_time(times: Values, values: Values, blocks: int = 20) -> Slope:
    """Fit a line to a time series; the interval allows for correlation in time.

    The width comes from leaving out one block of consecutive values at a time, and is valid if a
    block is much longer than the correlation time.

    Args:
        times: Abscissae, in order of time.
        values: Ordinates.
        blocks: Number of blocks.

    References:
        Efron, "The jackknife, the bootstrap and other resampling plans", 1982, chapter 3, with
        groups of values; the cluster-robust covariance CR3.
    """
    design = np.stack([np.ones(len(times)), times], 1)
    square, product = design.T @ design, design.T @ values
    value = np.linalg.solve(square, product)[1]
    without = np.array(
        [
            np.linalg.solve(square - part.T @ part, product - part.T @ inside)[1]
            for part, inside in zip(
                np.array_split(design, blocks), np.array_split(values, blocks), strict=True
            )
        ]
    )
    spread = math.sqrt((blocks - 1) / blocks * float(((without - value) ** 2).sum()))
    half = student(blocks - 1) * spread
    return Slope(float(value), float(value - half), float(value + half))


def in_stretches(times: Values, values: Values, per_decade: int) -> tuple[list[float], list[float]]:
    """Average over stretches whose length grows in proportion to time.

    Returns:
        The geometric middle of each stretch, and the mean over the stretch.
    """
    # A stretch ends with, and not before, a round number.
    numbers = np.ceil(np.log10(times) * per_decade - 1e-9)
    middles, means = [], []
    for number in np.unique(numbers):
        inside = numbers == number
        middles.append(float(np.exp(np.log(times[inside]).mean())))
        means.append(float(values[inside].mean()))
    return middles, means
