"""Choice of a rank by measurement: noise of the gradient, and time of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from uoro.algebra import entry, size
from uoro.arguments import (
    mismatch,
    require_arrays,
    require_count,
    require_dynamics,
    require_list,
    require_number,
    require_seed,
    require_stream,
)
from uoro.deprecation import renamed
from uoro.derivatives.routes import probe
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, StreamError, spelled
from uoro.estimators.joint import JointUORO
from uoro.estimators.scaling import Scaling, require_scaling
from uoro.estimators.spelling import Choice
from uoro.learning.stream import read
from uoro.suggesting.moments import relative_noise, signal
from uoro.suggesting.subject import Subject
from uoro.suggesting.trial import Trial, block_of

TIMED = 3
"""Number of timed runs, after one run that compiles."""


class RankRow(NamedTuple):
    """Measurement at one rank of `JointUORO`.

    Attributes:
        rank: k.
        noise: Relative variance of the gradient, ``Σ E‖g̃ - g‖² / Σ‖g‖²`` over the steps; NaN if g
            cannot be told from zero, for which more steps or replicas help.
        error: Standard error of the noise, by the jackknife over replicas.
        seconds: Time of a step (state, loss and gradient; no optimizer), in seconds.
        added: Mean variance that a reduction added to the influence estimate.
    """

    rank: int
    noise: float
    error: float
    seconds: float
    added: float


class RankReport(NamedTuple):
    """A suggested rank, with the measurements behind it.

    Attributes:
        rank: Suggested rank; ``None`` if no rank meets the request.
        outcome: Reason, in words, with the ranks that were left out.
        rows: One row for each rank, in order.
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
    """Suggest a rank k for ``JointUORO(k)``, by measurements on a model.

    Deprecated: `uoro.suggest` compares all estimators, ranks among them, and with an exact gradient
    where that is affordable.

    At each rank, independent replicas of the estimator run over the same items, at fixed params.
    With the inner products of their gradients summed over steps, ``S_ij = Σ_t <g_i, g_j>``, the
    means of ``S_ij`` over i ≠ j and of ``S_ii`` are unbiased estimates of ``Σ‖g‖²`` and
    ``Σ E‖g̃‖²``: no exact gradient is needed. ``Σ‖g‖²`` is estimated at the highest rank, which
    has the least noise.

    The suggestion depends on the request:

    - noise and seconds: the smallest rank that meets both;
    - noise alone: the smallest rank that meets the noise;
    - seconds alone: the rank of least noise within the seconds;
    - neither: the rank of least noise times seconds, whose mean gradient has the least variance
      for a given time.

    Ranks above n, the number of state coordinates, are left out, as rank n is exact. The numbers
    hold for the given params and items. Noise grows as a model learns to remember: measure again
    along a run.

    Cost: for each rank, ``replicas`` estimators over ``steps`` items, one more estimator four
    times, and two compilations. Memory: the pairs of all replicas at the highest rank.

    Args:
        dynamics: Model.
        params: θ, of a trained model if possible.
        state: Hidden state before the first item.
        items: Stream of items; ``steps`` of them are read.
        noise: Largest acceptable relative variance; default none.
        seconds: Longest acceptable time of a step, in seconds; default none.
        ranks: Ranks to measure.
        steps: Number of items; fewer if the stream ends.
        skip: Number of first items left out of the noise, as pairs start at zero; default a third
            of the items.
        replicas: Number of replicas, 3 or more.
        seed: Seed of the signs.
        scaling: Scaling of the projections, as in `JointUORO`.

    Returns:
        The rank, the outcome in words, and one row for each rank.

    Raises:
        SettingError: If a number is out of range, or every rank is above n.
        StreamError: If the stream has no more items than are left out.

    References:
        Tallec & Ollivier, "Unbiased Online Recurrent Optimization", section 3.4, for the
        effect of the rank on the variance. The choice by measurement is this library's.
    """
    call = "suggest_rank(…)"
    renamed("suggest_rank(...)", 'suggest(..., estimators=["joint:4", ...])')
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
        hint = "Pass more items, or a smaller skip."
        raise StreamError(mismatch(call, "items", f"more than {left_out}", str(count), hint))
    probe(dynamics, params, state, entry(backend, stack, 0))
    block = block_of(count, replicas * size(backend, params))
    trial = Trial(dynamics, params, state, stack, count, left_out, block, seed)
    tried = {
        rank: Subject(trial, Choice(f"joint:{rank}", JointUORO(rank, scaling=scaling), 1), rank)
        for rank in chosen
    }
    found = {rank: subject.products(replicas, None) for rank, subject in tried.items()}
    best = signal(found[chosen[-1]][0])
    rows = tuple(
        RankRow(rank, *relative_noise(products, best), _least_time(tried[rank]), added)
        for rank, (products, added) in found.items()
    )
    rank, outcome = choose(rows, noise, seconds)
    if beyond:
        named = ", ".join(map(str, beyond))
        outcome += f" Left out: {named}, as rank {size(backend, state)} is exact."
    return RankReport(rank, outcome, rows)


def _least_time(subject: Subject) -> float:
    """Return the least seconds of a step, after one run that compiles."""
    return min(subject.seconds() for _ in range(1 + TIMED))


def _within(ranks: Sequence[int], n: int) -> tuple[list[int], list[int]]:
    """Return the ranks up to n, and those above; raise if all are above."""
    shown = f"suggest_rank(ranks={spelled(ranks)})"
    every = [require_count(shown, "rank", k) for k in require_list(shown, "ranks", ranks)]
    within = sorted({rank for rank in every if rank <= n})
    if not within:
        most = f"a rank of at most {n}, the number of state coordinates, where rank {n} is exact"
        raise SettingError(mismatch(shown, "ranks", most, spelled(ranks)))
    return within, sorted({rank for rank in every if rank > n})


def choose(
    rows: tuple[RankRow, ...], noise: float | None, seconds: float | None
) -> tuple[int | None, str]:
    """Return a rank and the reason, by the rules of `suggest_rank`."""
    known = [row for row in rows if math.isfinite(row.noise)]
    if not known:
        return None, "The replicas cannot tell the gradient from zero. Take more steps or replicas."
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
