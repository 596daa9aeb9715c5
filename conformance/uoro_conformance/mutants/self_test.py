"""The suite on itself: each wrong estimator is refused by its check, and no right one is biased."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from uoro_conformance.cases import at_every_step, at_first_step, many_streams
from uoro_conformance.exact import (
    check_chain,
    check_gradient_path,
    check_outcome,
    check_sign_equivariance,
)
from uoro_conformance.finding import REFUSALS, Finding, Verdict
from uoro_conformance.laws import check_adjointness
from uoro_conformance.least import check_added_variance
from uoro_conformance.linearity import check_linearity
from uoro_conformance.mapped import check_mapped
from uoro_conformance.mutants.right import RIGHT
from uoro_conformance.mutants.variants import Mutant
from uoro_conformance.mutants.wrong import WRONG
from uoro_conformance.mutants.wrong_dynamics import RIGHT_DYNAMICS, WRONG_DYNAMICS, WrongDynamics
from uoro_conformance.prediction import check_prediction_of_trees
from uoro_conformance.streams import check_streams
from uoro_conformance.systems import Trial
from uoro_conformance.truth import check_truth

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


DERIVATIVE_KILLERS: dict[str, Callable[[Trial, int], Finding]] = {
    "true": at_every_step(check_truth),
    "adjoint": at_every_step(check_adjointness),
    "linear": at_every_step(check_linearity),
    "mapped": at_first_step(check_mapped),
    "many": many_streams,
}
"""The checks that refuse wrong dynamics, as the suite runs them, by name."""


def refuse_dynamics(trial: Trial, wrong: WrongDynamics) -> Finding:
    """Run the check that is named for wrong dynamics."""
    altered = replace(trial, dynamics=wrong.build(trial))
    return DERIVATIVE_KILLERS[wrong.killed_by](altered, 0)


def check_wrong_dynamics_are_refused(trial: Trial) -> Finding:
    """Check that all wrong dynamics are refused by the check named for them, and no right ones."""
    exceptions = [
        wrong.name
        for wrong in WRONG_DYNAMICS
        if refuse_dynamics(trial, wrong).verdict not in REFUSALS
    ]
    for name, build in RIGHT_DYNAMICS.items():
        altered = replace(trial, dynamics=build(trial))
        if not all(check(altered, 0).holds for check in DERIVATIVE_KILLERS.values()):
            exceptions.append(name)
    count = len(WRONG_DYNAMICS) + len(RIGHT_DYNAMICS)
    return _finding("wrong dynamics are refused, and no right ones", exceptions, count, trial)


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
