"""Which rank to take: the noise of the gradient and the time of a step, measured on a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from uoro.algebra import entry, size
from uoro.arguments import (
    require_arrays,
    require_count,
    require_dynamics,
    require_list,
    require_number,
    require_seed,
    require_stream,
)
from uoro.derivatives.routes import probe
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, StreamError, spelled
from uoro.estimators.scaling import Scaling, require_scaling
from uoro.learning.stream import read
from uoro.monitors.rank_trial import RankTrial, relative_noise, signal


class RankRow(NamedTuple):
    """What was measured at one rank of the optimal reduction.

    Attributes:
        rank: k.
        noise: Relative variance of the gradient, ``Σ E‖g̃ - g‖² / Σ‖g‖²`` over the steps. NaN
            where the replicas do not tell g from zero: more steps or replicas may.
        error: Standard error of the noise, by leaving out one replica at a time.
        seconds: Time of a step: state, loss and gradient, without an optimizer.
        added: Mean variance that a reduction added to the estimate of the influence.
    """

    rank: int
    noise: float
    error: float
    seconds: float
    added: float


class RankReport(NamedTuple):
    """A rank to take, and what it was chosen by.

    Attributes:
        rank: The rank suggested; ``None`` if no rank does what was asked.
        outcome: In words why, with the ranks that were left out.
        rows: One for each rank, in order.
    """

    rank: int | None
    outcome: str
    rows: tuple[RankRow, ...]


def suggest_rank(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    items: Iterable[Any],
    *,
    noise: float | None = None,
    seconds: float | None = None,
    ranks: Sequence[int] = (1, 2, 4, 8, 16, 32),
    steps: int = 200,
    skip: int | None = None,
    replicas: int = 4,
    seed: int = 0,
    scaling: Scaling | None = None,
) -> RankReport:
    """Suggest a rank for ``JointUORO(k)`` by measuring on a model.

    At each rank, independent replicas of the estimator run over the same items, the params held.
    With the sums over the steps of their inner products, ``S_ij = Σ_t <g_i, g_j>``, the means of
    ``S_ij`` over i ≠ j and of ``S_ii`` are unbiased estimates of ``Σ‖g‖²`` and of ``Σ E‖g̃‖²``, so
    that no exact gradient is needed. The first is taken from the highest rank, which knows it best.

    The rank suggested is the smallest that meets the noise within the seconds. With no seconds
    asked for, it is the smallest that meets the noise; with no noise, the one of least noise within
    the seconds; with neither, the one of least noise times seconds: of the same time spent on
    each, its mean gradient has the least variance.

    Ranks beyond the number n of state coordinates are left out, as rank n is exact; the outcome
    says so. The numbers are those of the params and items given. Noise grows as a model learns to
    remember: measure again along a run.

    Cost: for each rank, ``replicas`` estimators over ``steps`` items together, and one of them
    four times more; two compilations. Memory: the pairs of all replicas of the highest rank.

    Args:
        dynamics: The model.
        params: θ, those of a trained model if possible.
        state: The state before the first item.
        items: A stream of them; ``steps`` are taken.
        noise: The highest relative variance that will do.
        seconds: The longest that a step may take.
        ranks: Which to measure.
        steps: How many items to run over. Fewer will do if the stream ends.
        skip: How many of the first to leave out of the noise, as pairs start from zero, without
            any; a third of the steps if not given.
        replicas: How many run beside each other, 3 or more.
        seed: Of the signs.
        scaling: That of the estimators, as `UORO` takes it.

    Returns:
        The rank, the outcome in words, and a row for each rank.

    Raises:
        SettingError: If a number is out of its range, or no rank is within n.
        StreamError: If there are no more items than are left out.

    Example:
        >>> import numpy as np
        >>> from uoro import load_backend, suggest_rank
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> def transition(w, state, x):
        ...     after = xp.tanh(w @ state + x)
        ...     return after, 0.5 * xp.sum((after - 1.0) ** 2)
        >>> items = np.random.default_rng(0).normal(size=(30, 3))
        >>> report = suggest_rank(
        ...     backend.dynamics(transition), 0.5 * xp.eye(3), xp.zeros(3), items,
        ...     noise=1e-9, ranks=(1, 3, 8))
        >>> report.rank
        3
        >>> report.outcome
        'Rank 3 is the smallest with a noise of 1e-09. Left out: 8, as rank 3 is exact.'

    References:
        Tallec & Ollivier, "Unbiased Online Recurrent Optimization", section 3.4, for what a rank
        does to the variance. The choice by measurement is this library's.
    """
    call = "suggest_rank(…)"
    require_dynamics(call, dynamics)
    noise, seconds = (
        None
        if wanted is None
        else require_number(
            f"suggest_rank({what}={spelled(wanted)})",
            what,
            wanted,
            "a positive, finite number",
            lambda x: x > 0,
        )
        for what, wanted in (("noise", noise), ("seconds", seconds))
    )
    shown = f"suggest_rank(steps={spelled(steps)})"
    steps = require_count(shown, "number of steps", steps, least=2)
    shown = f"suggest_rank(replicas={spelled(replicas)})"
    replicas = require_count(shown, "number of replicas", replicas, least=3)
    if skip is not None:
        shown = f"suggest_rank(skip={spelled(skip)})"
        skip = require_count(shown, "number of steps left out", skip, least=0)
    seed = require_seed(call, seed)
    require_scaling(f"suggest_rank(scaling={spelled(scaling)})", scaling)
    backend = dynamics.backend
    for what, tree in (("params", params), ("state", state)):
        require_arrays(backend, tree, f"suggest_rank({what}=...)")
    chosen, beyond = _within(ranks, size(backend, state))
    stack, count = read(backend, require_stream(call, items), steps)
    left_out = count // 3 if skip is None else skip
    if count <= left_out:
        raise StreamError(
            f"{call}: there are {count} items, and the first {left_out} are left out. Give more "
            "items, or a smaller skip."
        )
    probe(dynamics, params, state, entry(backend, stack, 0))
    trial = RankTrial(dynamics, params, state, stack, count, left_out, replicas, seed, scaling)
    found = {rank: trial.products(rank) for rank in chosen}
    best = signal(found[chosen[-1]][0])
    rows = tuple(
        RankRow(rank, *relative_noise(products, best), trial.time(rank), added)
        for rank, (products, added) in found.items()
    )
    rank, outcome = choose(rows, noise, seconds)
    if beyond:
        named = ", ".join(map(str, beyond))
        outcome += f" Left out: {named}, as rank {size(backend, state)} is exact."
    return RankReport(rank, outcome, rows)


def _within(ranks: Sequence[int], n: int) -> tuple[list[int], list[int]]:
    """Sort out the ranks that are no more than n; raise if there are none."""
    shown = f"suggest_rank(ranks={spelled(ranks)})"
    every = [require_count(shown, "rank", k) for k in require_list(shown, "ranks", ranks)]
    within = sorted({rank for rank in every if rank <= n})
    if not within:
        raise SettingError(
            f"{shown}: wanted is a rank of at most {n}, the number of coordinates of the state; "
            f"rank {n} is exact."
        )
    return within, sorted({rank for rank in every if rank > n})


def choose(
    rows: tuple[RankRow, ...], noise: float | None, seconds: float | None
) -> tuple[int | None, str]:
    """Pick a rank, and say why, as `suggest_rank` does."""
    known = [row for row in rows if math.isfinite(row.noise)]
    if not known:
        return None, "The replicas do not tell the gradient from zero. Take more steps or replicas."
    fast = [row for row in known if seconds is None or row.seconds <= seconds]
    if not fast:
        least = min(known, key=lambda row: row.seconds)
        return None, (
            f"No rank takes {seconds:.3g} seconds or less: rank {least.rank} takes "
            f"{least.seconds:.3g}."
        )
    within = "" if seconds is None else f" within {seconds:.3g} seconds"
    if noise is not None:
        enough = [row for row in fast if row.noise <= noise]
        if not enough:
            best = min(fast, key=lambda row: row.noise)
            return None, (
                f"No rank{within} has a noise of {noise:.3g}: rank {best.rank} has "
                f"{best.noise:.3g} and takes {best.seconds:.3g} seconds."
            )
        found = enough[0].rank
        return found, f"Rank {found} is the smallest with a noise of {noise:.3g}{within}."
    if seconds is not None:
        found = min(fast, key=lambda row: row.noise).rank
        return found, f"Rank {found} has the least noise{within}."
    found = min(fast, key=lambda row: max(row.noise, 0.0) * row.seconds).rank
    return found, f"Rank {found} has the least noise times seconds."
