"""The signs a library really draws, tested by e-values with stated error rates.

Enumeration injects every sign sequence and so says nothing about the sampler. Here the signs of a
free run are taken as they come. Under the law, any product of distinct signs is a fair sign, and so
are the products of one pattern along a run, independently; a beta-binomial mixture bets against
that. Its value e is at most 1 on average if the law holds, whatever the number of draws, so that
``P(e >= 1/α) <= α`` (Ville); averages of e-values are e-values again.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.estimator import Estimator
from uoro_conformance.finding import Finding

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


def drawn_signs(
    backend: Backend, estimator: Estimator, state: Any, *, steps: int, seeds: int
) -> Any:
    """Take the draws of free runs: the noise that `Learner` uses at each step, for each seed.

    Returns:
        An array (seeds, steps, numbers drawn at a step).
    """
    runs = []
    for seed in range(seeds):
        key = backend.key(seed)
        rows = []
        for step in range(steps):
            sampler = partial(backend.random, backend.fold(key, step))
            noise = backend.to_host(estimator.draw(sampler, state))
            leaves = [np.asarray(leaf).reshape(-1) for _, leaf in backend.named_leaves(noise)]
            rows.append(np.concatenate(leaves))
        runs.append(rows)
    return np.array(runs, np.float64)


def check_signs(draws: Any) -> Finding:
    """Check that draws are fair, independent signs.

    The support is checked exactly. Then, by e-values, products over single coordinates, pairs of
    coordinates, lags of one to four steps, and pairs of runs. (With rank k the ranks are
    coordinates too.)

    Args:
        draws: An array (runs, steps, coordinates), from `drawn_signs` or from a run of one's own.

    Returns:
        *broken* with the family that gave it away; the gap is log10 of its average e-value.
    """
    law = "the noise is fair independent signs"
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
        families[f"lag {lag}"] = _scores(draws[:, lag:] * draws[:, :-lag])
    if runs > 1:
        families["pairs of runs"] = _scores(draws[1:] * draws[:-1])
    logs = {name: _log_mean(scores) for name, scores in families.items()}
    overall = _log_mean(list(logs.values()))
    worst = max(logs, key=lambda name: logs[name])
    allowed = math.log10(REJECT)
    gap = overall / math.log(10.0)
    return Finding(
        law,
        "holds" if gap < allowed else "broken",
        gap,
        allowed,
        f"{runs} runs of {steps} steps, {width} signs each; strongest evidence in {worst}, "
        f"log10 e = {logs[worst] / math.log(10.0):.3g}. False alarms: 1e-12 at most.",
    )


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
