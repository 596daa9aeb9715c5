"""The signs that a library really draws, tested by e-values with stated error rates.

Enumeration injects every sign sequence and so says nothing about the sampler. Here the signs of a
free run are taken as they come. Under the law, any product of distinct signs is a fair sign, and so
are the products of one pattern along a run, independently; a beta-binomial mixture bets against
that. Its value e is at most 1 on average if the law holds, whatever the number of draws, so that
``P(e >= 1/α) <= α`` (Ville); averages of e-values are e-values again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.estimator import Estimate, Estimator, Guarantee, Sampler, guarantee_of, needs_item
from uoro.learning.learner import Learner
from uoro_conformance.finding import Finding
from uoro_conformance.systems import Trial

REJECT = 1e12
"""Reject where the average e-value reaches this: a false alarm has probability 1e-12 at most."""


def log_e_value(successes: Any, count: int) -> Any:
    """Logarithm of the beta-binomial e-value for ``successes`` among ``count`` fair signs.

    ``betaln(½ + k, ½ + N - k) - betaln(½, ½) + N log 2``: the likelihood ratio of a mixture over
    all biases, with Jeffreys' prior, against fairness.
    """
    lgamma = np.vectorize(math.lgamma, otypes=[float])
    k = np.asarray(successes, float)
    mixture = lgamma(k + 0.5) + lgamma(count - k + 0.5) - math.lgamma(count + 1.0)
    return mixture - math.log(math.pi) + count * math.log(2.0)


def _log_mean(logs: list[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))


@dataclass(frozen=True)
class Recording:
    """An estimator that reports the noise it was given, as `Estimate.aux`."""

    estimator: Estimator

    @property
    def guarantee(self) -> Guarantee:
        """That of the estimator."""
        return guarantee_of(self.estimator)

    @property
    def needs_item(self) -> bool:
        """Return whether the carry of the estimator is built by an item."""
        return needs_item(self.estimator)

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Any:
        """Build the estimator's carry."""
        return self.estimator.init(dynamics, params, state, inputs=inputs)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw what the estimator draws."""
        return self.estimator.draw(sampler, state)

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Estimate]:
        """Compute a step, and report the signs."""
        after, next_state, estimate = self.estimator.step(
            dynamics, params, carry, state, inputs, signs
        )
        return after, next_state, estimate._replace(aux=signs)


class Held:
    """An optimizer that leaves the params alone."""

    def init(self, backend: Backend, params: Any) -> tuple[()]:
        """Return the empty optimizer state."""
        return ()

    def update(
        self, backend: Backend, gradient: Any, opt_state: Any, params: Any, time: Any
    ) -> tuple[Any, Any]:
        """Change nothing."""
        return params, opt_state


def drawn_signs(
    trial: Trial, estimator: Estimator, *, steps: int, runs: int = 2, seed: int = 0
) -> Any:
    """Record the signs that `Learner` really used, in free runs that repeat a trial's items.

    Args:
        trial: Trial to run on; its params are held. For `Streams` its state and items are stacks.
        estimator: Estimator that draws.
        steps: Number of steps per run.
        runs: Number of runs; default 2.
        seed: Run r of them has the seed ``seed × runs + r``.

    Returns:
        An array (runs, steps, numbers drawn at a step).
    """
    backend, drawn = trial.dynamics.backend, []
    for run in range(runs):
        learner = Learner(
            trial.dynamics,
            Recording(estimator),
            Held(),
            trial.params[0],
            trial.state,
            seed=seed * runs + run,
        )
        rows = []
        for item in islice(cycle(trial.items), steps):
            signs = backend.to_host(learner.step(item).aux)
            leaves = [np.asarray(leaf).reshape(-1) for _, leaf in backend.named_leaves(signs)]
            rows.append(np.concatenate(leaves))
        drawn.append(rows)
    return np.array(drawn, np.float64)


def check_signs(draws: Any) -> Finding:
    """Check that draws are fair, independent signs.

    The support is checked exactly. Then, by e-values, products over single coordinates, pairs of
    coordinates, any two coordinates one to four steps apart, and pairs of runs, so far apart too.
    (With rank k the ranks are coordinates too.)

    Args:
        draws: An array (runs, steps, coordinates), from `drawn_signs` or from a run of one's own.

    Returns:
        *broken* with the family that gave it away; the gap is log10 of the average e-value. The
        finding resolves a bias of P(+1) shared by all coordinates.
    """
    law = "the signs are fair and independent"
    draws = np.asarray(draws, np.float64)
    support = np.unique(draws)
    if not np.array_equal(np.abs(support), np.ones(len(support))):
        return Finding(
            law, "broken", math.inf, 0.0, f"Values other than ±1 were drawn: {support[:5]} …"
        )
    runs, steps, width = draws.shape
    families: dict[str, list[float]] = {"single coordinates": _scores(draws)}
    if width > 1:
        pairs = [draws[:, :, i] * draws[:, :, j] for i in range(width) for j in range(i)]
        families["pairs of coordinates"] = _scores(np.stack(pairs, -1), pooled=False)
    for lag in range(1, min(5, steps)):
        lagged = np.einsum("rti,rtj->rtij", draws[:, lag:], draws[:, :-lag])
        shape = (runs, steps - lag, width * width)
        families[f"lag {lag}"] = _scores(lagged.reshape(shape), pooled=False)
    if runs > 1:
        families["pairs of runs"] = _scores(draws[1:] * draws[:-1])
        for lag in range(1, min(5, steps)):
            ahead = draws[1:, :-lag] * draws[:-1, lag:]
            behind = draws[1:, lag:] * draws[:-1, :-lag]
            shifted = np.concatenate([ahead, behind], axis=-1)
            families[f"pairs of runs, lag {lag}"] = _scores(shifted, pooled=False)
    logs = {name: _log_mean(scores) for name, scores in families.items()}
    overall = _log_mean(list(logs.values()))
    worst = max(logs, key=lambda name: logs[name])
    allowed = math.log10(REJECT)
    gap = overall / math.log(10.0)
    seen = _smallest_bias(draws.size, len(families["single coordinates"]) * len(families))
    return Finding(
        law,
        "holds" if gap < allowed else "broken",
        gap,
        allowed,
        f"{runs} runs of {steps} steps, {width} signs each; strongest evidence in {worst}, "
        f"log10 e = {logs[worst] / math.log(10.0):.3g}. P(+1) = {0.5 + seen:.3f} would be seen.",
        false_alarm=1.0 / REJECT,
        resolves=seen,
    )


def _smallest_bias(count: int, members: int) -> float:
    """Return the least ``|P(+1) - ½|`` at which ``count`` pooled signs reach the threshold.

    From ``log e ≈ 2 N δ² - ½ log(π N / 2)``, averaged over ``members`` e-values.
    """
    needed = math.log(REJECT * members) + 0.5 * math.log(math.pi * count / 2)
    return min(0.5, math.sqrt(needed / (2 * count)))


def _scores(products: Any, *, pooled: bool = True) -> list[float]:
    """Score each column of (runs, steps, members) over all runs and steps.

    Args:
        products: Products of signs.
        pooled: Whether the columns are independent of each other too; then all of them together
            are scored besides, which sees a small bias that they share.
    """
    flat = products.reshape(-1, products.shape[-1])
    scores: list[float] = log_e_value((flat > 0).sum(0), len(flat)).tolist()
    if pooled:
        scores.append(float(log_e_value((flat > 0).sum(), flat.size)))
    return scores
