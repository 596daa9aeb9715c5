"""Bias of a black box whose random draws cannot be chosen: a test by sampling, valid anytime.

For independent ``X = Y - μ`` of mean zero and variance at most σ², Delyon's inequality
``E exp(λ X - λ² (X² + 2 σ²) / 6) <= 1`` holds for every λ, whatever the tails. Mixed over a normal
λ of precision r it gives

    V = Σ (X² + 2 σ²) / 3,    S = Σ X,    log e = ½ log(r / (r + V)) + S² / (2 (r + V)),

whose expectation stays below 1 however often one looks, so that ``P(e ever reaches 1/α) <= α``
(Ville). The ordinary z and t tests are not valid here: gradient noise has heavy tails.

What is assumed: the variance is at most `CAUTION` times that of a pilot sample.

References:
    Delyon, "Exponential inequalities for sums of weakly dependent variables", 2009;
    Howard et al., "Time-uniform Chernoff bounds via nonnegative supermartingales", 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from uoro_conformance.finding import Finding, Verdict

CAUTION = 2.0
"""κ: how many times the variance of the pilot sample is allowed for."""

ROUNDING = 1e-3
"""Where there is no noise, what is further off is biased."""

Sample: TypeAlias = Callable[[int], Any]
"""From the number of a batch to an array (draws in a batch, functionals), independent draws."""


def check_mean(
    sample: Sample,
    exact: Sequence[float],
    names: Sequence[str],
    *,
    delta: float,
    alpha: float = 1e-10,
    most: int = 100_000,
    law: str = "the mean is the exact one",
    system: str = "",
) -> Finding:
    """Decide by sampling whether the means of some numbers are the exact ones.

    Args:
        sample: Function from a batch number to independent draws; batch 0 is the pilot.
        exact: Expected mean of each number.
        names: Name of each number.
        delta: The bias that matters; the unit is that of the numbers.
        alpha: The largest probability of *biased* where there is no bias, and of *holds* where
            there is one of ``delta``.
        most: Largest number of draws.
        law: Name of the law.
        system: A line that makes the system again.

    Returns:
        *biased* once the bias is beyond doubt; *holds* once one of ``delta`` is excluded;
        *undecided* if ``most`` draws show neither, with the bias that could have been seen;
        *unverifiable* if the variance turns out to be more than `CAUTION` times the pilot's.
    """
    target = np.asarray(exact, np.float64)
    pilot = _finite(sample(0))
    if pilot is None:
        return Finding(law, "unverifiable", math.nan, delta, "A number is not finite.", system)
    spread = pilot.var(axis=0)
    if not spread.any():
        return _judge_constant(law, [pilot, _finite(sample(1))], target, names, system)
    # A number that hardly varies is given some variance: a looser bound is a bound.
    spread = np.maximum(spread, (0.01 * delta) ** 2)
    bet = Bet(spread, delta, alpha)
    moments, batch = Moments(0, np.zeros(len(target)), np.zeros(len(target))), 1
    verdict: Verdict = "undecided"
    while verdict == "undecided" and moments.draws < most:
        draws = _finite(sample(batch))
        if draws is None:
            return Finding(law, "unverifiable", math.nan, delta, "A number is not finite.", system)
        moments, batch = moments.add(draws - target), batch + 1
        verdict = bet.verdict(moments)
    seen = moments.squares / moments.draws - (moments.total / moments.draws) ** 2
    if verdict != "undecided" and (seen > CAUTION * spread).any():
        verdict = "unverifiable"
    mean, error = moments.total / moments.draws, np.sqrt(spread / moments.draws)
    worst = int(np.argmax(np.abs(mean) / error))
    needed = f" About {bet.needed:,} draws would decide." if verdict == "undecided" else ""
    return Finding(
        law,
        verdict,
        float(np.max(np.abs(mean))),
        delta,
        f"{moments.draws:,} draws of {len(target)} numbers; furthest is '{names[worst]}': "
        f"{target[worst] + mean[worst]:.4g} ± {error[worst]:.2g}, exact {target[worst]:.4g}."
        f"{needed} Wrong with probability at most {alpha:.0e} if no variance is more than "
        f"{CAUTION:g} times the pilot's; the largest ratio seen is {np.max(seen / spread):.2g}.",
        system,
        false_alarm=alpha,
        resolves=bet.radius(moments),
    )


class Moments(NamedTuple):
    """How many X there were, their sums, and the sums of their squares."""

    draws: int
    total: Any
    squares: Any

    def add(self, rows: Any) -> Moments:
        """Add a batch of rows of X."""
        return Moments(
            self.draws + len(rows),
            self.total + rows.sum(axis=0),
            self.squares + (rows**2).sum(axis=0),
        )

    def shifted(self, by: float) -> Moments:
        """Return the moments of ``X - by``."""
        squares = self.squares - 2 * by * self.total + self.draws * by**2
        return Moments(self.draws, self.total - self.draws * by, squares)


class Bet:
    """The e-process, its precision r tuned to the number of draws that ``delta`` will need."""

    def __init__(self, variance: Any, delta: float, alpha: float) -> None:
        self.bound, self.delta = CAUTION * variance, delta
        self.log_limit = math.log(1.0 / alpha)
        evidence = self.log_limit + math.log(len(variance))
        evidence += 0.5 * math.log(1.0 + 2.0 * evidence)
        # Mean evidence N² δ² / (2 V), with V = N σ² (1 + 2κ) / 3, less three standard errors.
        root = math.sqrt(2.0 * evidence * (1.0 + 2.0 * CAUTION) / 3.0) + 3.1
        self.needed = math.ceil(float(np.max(variance)) * (root / delta) ** 2)
        per_draw = (variance + 2.0 * self.bound) / 3.0
        self.precision = self.needed * per_draw / (2.0 * evidence)

    def log_e(self, moments: Moments) -> Any:
        """Return log e against mean zero, for each functional."""
        spent = (moments.squares + 2.0 * moments.draws * self.bound) / 3.0
        total = self.precision + spent
        return 0.5 * np.log(self.precision / total) + moments.total**2 / (2.0 * total)

    def verdict(self, moments: Moments) -> Verdict:
        """Return the verdict on the draws so far."""
        against = self.log_e(moments)
        if float(np.logaddexp.reduce(against)) - math.log(len(against)) >= self.log_limit:
            return "biased"
        edges = [self.log_e(moments.shifted(side * self.delta)) for side in (-1.0, 1.0)]
        within = np.abs(moments.total / moments.draws) < self.delta
        return "holds" if within.all() and np.min(edges) >= self.log_limit else "undecided"

    def radius(self, moments: Moments) -> float:
        """Return the smallest bias that would be found by now, for the noisiest functional."""
        spent = (moments.squares + 2.0 * moments.draws * self.bound) / 3.0
        total = self.precision + spent
        limit = self.log_limit + math.log(len(spent)) + 0.5 * np.log(total / self.precision)
        return float(np.max(np.sqrt(2.0 * total * limit) / moments.draws))


def _finite(draws: Any) -> Any:
    draws = np.asarray(draws, np.float64)
    return draws if np.isfinite(draws).all() else None


def _judge_constant(
    law: str, batches: list[Any], target: Any, names: Sequence[str], system: str
) -> Finding:
    """Judge a black box that is deterministic: every deviation is a bias."""
    if any(batch is None for batch in batches):
        return Finding(law, "unverifiable", math.nan, ROUNDING, "A number is not finite.", system)
    gaps = np.max([np.abs(batch - target).max(axis=0) for batch in batches], axis=0)
    worst = int(np.argmax(gaps))
    return Finding(
        law,
        "biased" if gaps[worst] > ROUNDING else "holds",
        float(gaps[worst]),
        ROUNDING,
        f"There is no noise; '{names[worst]}' is off by {gaps[worst]:.4g}.",
        system,
    )
