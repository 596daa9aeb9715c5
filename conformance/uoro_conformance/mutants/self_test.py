"""The suite on itself: each wrong estimator is refused by its check, and no right one is biased."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from uoro_conformance.exact import (
    check_chain,
    check_gradient_path,
    check_outcome,
    check_sign_equivariance,
)
from uoro_conformance.finding import REFUSALS, Finding, Verdict
from uoro_conformance.least import check_added_variance
from uoro_conformance.mutants.right import RIGHT
from uoro_conformance.mutants.variants import Mutant
from uoro_conformance.mutants.wrong import WRONG
from uoro_conformance.prediction import check_prediction_of_trees
from uoro_conformance.streams import check_streams
from uoro_conformance.systems import Trial

BIAS: dict[str, Callable[[Trial, Any], Finding]] = {
    "chain": check_chain,
    "gradient": check_gradient_path,
}
"""The checks that call an estimator biased, by name."""

KILLERS: dict[str, Callable[[Trial, Any], Finding]] = {
    **BIAS,
    "outcome": check_outcome,
    "equivariance": check_sign_equivariance,
    "streams": check_streams,
    "prediction": check_prediction_of_trees,
    "variance": check_added_variance,
}
"""The checks that refuse a wrong estimator, by the name that it gives."""


def refuse(trial: Trial, mutant: Mutant) -> Finding:
    """Run the check that is named for a wrong estimator."""
    return KILLERS[mutant.killed_by](trial.unrolled(mutant.span), mutant.estimator)


def check_wrong_are_refused(trial: Trial) -> Finding:
    """Check that every wrong estimator is refused on a trial by the check named for it."""
    survivors = [
        mutant.estimator.name for mutant in WRONG if refuse(trial, mutant).verdict not in REFUSALS
    ]
    return _finding("every wrong estimator is refused", survivors, len(WRONG), trial)


def check_right_are_not_biased(trial: Trial) -> Finding:
    """Check that no right estimator is called biased on a trial."""
    called = [
        variant.name
        for variant in RIGHT
        if any(check(trial, variant).verdict == "biased" for check in BIAS.values())
    ]
    return _finding("no right estimator is called biased", called, len(RIGHT), trial)


def _finding(law: str, exceptions: list[str], count: int, trial: Trial) -> Finding:
    evidence = f"{count - len(exceptions)} of {count}"
    evidence += f"; not: {', '.join(exceptions)}." if exceptions else "."
    verdict: Verdict = "broken" if exceptions else "holds"
    return Finding(law, verdict, math.nan, math.nan, evidence, trial.line)
