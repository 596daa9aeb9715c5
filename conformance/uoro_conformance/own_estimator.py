"""An estimator on a user's own model: pairs exactly, one step at a time; others as declared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from uoro.algebra import basis, size
from uoro.errors import UOROError
from uoro.estimator import Estimator, guarantee_of
from uoro.estimators import UORO, JointUORO
from uoro_conformance.declared import check_declaration
from uoro_conformance.designs import draws_of
from uoro_conformance.exact import (
    check_chain,
    check_determinism,
    check_gradient_path,
    check_outcome,
)
from uoro_conformance.finding import Finding, not_checked
from uoro_conformance.free_runs import relative_variance
from uoro_conformance.report import Report
from uoro_conformance.systems import Trial

MOST_COORDINATES = 256
"""Up to so many state coordinates the whole influence is looked at."""

MOST_UNBATCHED = 16
"""The same for a model that the backend cannot map over, so that Python loops."""

NOISE_SECONDS = 10.0
"""Time for the runs that measure the noise, on a backend that does not compile."""

MOST_NUMBERS = 2**25
"""Up to so many numbers may be held at once: cotangents, one for each design."""

MOST_JOINT = 32
"""Up to so many state coordinates joint pairs are looked at: all signs of two draws, paired."""

PROJECTIONS = 4
"""How many random projections are looked at otherwise."""


def check_guarantee(
    run: Callable[[str, Callable[[], Finding]], Finding],
    report: Report,
    trial: Trial,
    estimator: Estimator,
    seed: int,
) -> None:
    """Check that an estimator is what it declares; one that the model is not for is not checked."""
    backend, name = trial.dynamics.backend, str(estimator)
    n, count = size(backend, trial.state), size(backend, trial.params[0])
    report.notes.append(f"{n:,} state coordinates, {count:,} parameters.")
    law = f"{name} is {guarantee_of(estimator)}, as it declares"
    if n * count > MOST_NUMBERS:
        reason = f"Exact RTRL, to compare with, would carry {n:,} × {count:,} numbers."
        run("exact/declared", lambda: not_checked(law, reason))
        return

    def declared() -> Finding:
        try:
            trial.carry_of(estimator)
        except UOROError as error:
            reason = " ".join(str(error).split())
            return Finding(law, "unverifiable", math.nan, math.nan, f"It refuses: {reason}")
        return check_declaration(trial, estimator, seed=seed)

    run("exact/declared", declared)


def check_pairs(
    run: Callable[[str, Callable[[], Finding]], Finding],
    report: Report,
    trial: Trial,
    estimator: UORO | JointUORO,
    seed: int,
) -> None:
    """Check pairs on the model against exact RTRL, as far as its size allows."""
    backend = trial.dynamics.backend
    n, count = size(backend, trial.state), size(backend, trial.params[0])
    report.notes.append(f"{n:,} state coordinates, {count:,} parameters.")
    begun = time.perf_counter()
    batched = _can_be_mapped(trial, report)
    seconds = len(trial.items) * (time.perf_counter() - begun) / max(1, n)
    run("exact/determinism", lambda: check_determinism(trial, estimator, seed=seed))
    most = MOST_COORDINATES if batched else MOST_UNBATCHED
    joint, draws = isinstance(estimator, JointUORO), draws_of(estimator)
    designs = 4 * n * n if joint else 2 * n * draws
    small = n * (1 if joint else draws) <= most and not (joint and n > MOST_JOINT)
    whole = small and 2 * designs * count * estimator.rank <= MOST_NUMBERS
    if joint and not whole:
        reason = f"Joint pairs are checked on up to {MOST_JOINT} state coordinates; here are {n:,}."
        run("exact/chain", lambda: not_checked("each step's mean is RTRL's", reason))
        return
    projections = None if whole else PROJECTIONS
    options = {"seed": seed, "projections": projections, "batched": batched}
    run("exact/outcome", lambda: check_outcome(trial, estimator, **options))  # type: ignore[arg-type]  # a dict of options
    run("exact/chain", lambda: check_chain(trial, estimator, **options))  # type: ignore[arg-type]  # a dict of options
    run("exact/gradient", lambda: check_gradient_path(trial, estimator, **options))  # type: ignore[arg-type]  # the same
    if not whole:
        run(
            "exact/whole influence",
            lambda: not_checked(
                "each step's mean is RTRL's, in all entries",
                f"Of the {n:,} × {count:,} influence, {PROJECTIONS} random projections were looked "
                "at under a few random designs at each step: exact, but not every entry.",
            ),
        )
    runs = max(4, min(256 if batched else 16, MOST_NUMBERS // max(1, count)))
    if not backend.compiled:
        runs = max(4, min(runs, int(NOISE_SECONDS / seconds)))
    try:
        noise, error = relative_variance(trial, estimator, seed=seed, count=runs, batched=batched)
    except Exception as failure:
        said = " ".join(str(failure).split())[:200]
        report.notes.append(f"Its variance could not be measured: {type(failure).__name__}: {said}")
        return
    name = "UORO" if estimator == UORO() else str(estimator)
    more = "; rank k divides it by k." if estimator == UORO() else "."
    report.notes.append(
        f"Relative variance of {name}'s gradient at step {len(trial.items)}: {noise:.3g} ± "
        f"{error:.2g} ({runs} runs){more}"
    )


def _can_be_mapped(trial: Trial, report: Report) -> bool:
    """Try the backend's vmap on a step of the model; where it fails, note what that means."""
    backend, dynamics, estimator = trial.dynamics.backend, trial.dynamics, UORO()
    carry = trial.carry_of(estimator)

    def one(signs: Any) -> Any:
        return estimator.step(dynamics, trial.params[0], carry, trial.state, trial.items[0], signs)[
            1
        ]

    try:
        backend.vmap(one)(basis(backend, trial.state))
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        report.notes.append(
            f"The backend cannot map over this model ({type(error).__name__}: {said}): rank k > 1 "
            "and Streams will not run on it. Here designs were taken one by one."
        )
        return False
    return True
