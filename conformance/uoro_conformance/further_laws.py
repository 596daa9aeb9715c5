"""The laws of predictions, of what is drawn, and of what learns, by name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from uoro.estimator import Estimator
from uoro.estimators import (
    RTRL,
    UORO,
    JointUORO,
    KroneckerSum,
    RollingTruncated,
    SnAp,
    Truncated,
)
from uoro.estimators.streams import Streams
from uoro_conformance.backend import check_gaussian
from uoro_conformance.cases import Case, of, of_two_steps_as_one, on_backend, on_systems
from uoro_conformance.in_session import (
    drawn_signs_are_fair,
    draws_of_six_leaves,
    mean_of_free_runs,
)
from uoro_conformance.learning import check_learner, check_optimizers
from uoro_conformance.prediction import PREDICTOR, check_prediction
from uoro_conformance.profiles import Profile
from uoro_conformance.wide_draws import check_large_draws

JOINT, JOINT_TWO = JointUORO(1), JointUORO(2)
"""Joint pairs: fewer than there are state coordinates, and about as many."""

BESIDE = UORO(baseline="diagonal")
"""UORO with the diagonal baseline beside its pair."""


def laws_of_predictions(dtype: str) -> Iterator[Case]:
    """List the laws of outputs whose loss comes later."""
    estimators: dict[str, Estimator] = {
        "uoro": UORO(),
        "uoro:rank=2": UORO(rank=2),
        "joint:2": JOINT_TWO,
        "rtrl": RTRL(),
        "truncated": Truncated(),
        "rolling:2": RollingTruncated(2),
        "streams:uoro": Streams(UORO(), 3),
        "streams:joint:2": Streams(JOINT_TWO, 2),
        "streams:rtrl": Streams(RTRL(), 2),
        "streams:kron:1": Streams(KroneckerSum(1), 2),
        "uoro:baseline=diagonal": BESIDE,
        "streams:snap": Streams(SnAp(), 2),
    }
    for name, estimator in estimators.items():
        check = of(estimator, check_prediction)
        yield on_systems(f"{dtype}/prediction/{name}", dtype, check, gallery=[PREDICTOR])
    check = of_two_steps_as_one(UORO(), check_prediction)
    yield on_systems(f"{dtype}/prediction/uoro:memory=2", dtype, check, gallery=[PREDICTOR])


def laws_of_sampling(dtype: str) -> Iterator[Case]:
    """List the laws of what is drawn."""
    yield Case(f"{dtype}/sampling/signs", (dtype,), partial(drawn_signs_are_fair, dtype))
    wide = partial(draws_of_six_leaves, dtype)
    yield Case(f"{dtype}/sampling/leaves", (dtype,), wide)
    yield Case(
        f"{dtype}/sampling/large",
        (dtype,),
        lambda session: check_large_draws(session.backend, dtype, seed=session.seed),
    )
    yield Case(
        f"{dtype}/sampling/gaussian",
        (dtype, "gaussian", "spherical"),
        lambda session: check_gaussian(session.backend, dtype, seed=session.seed),
    )
    yield Case(f"{dtype}/sampling/mean", (dtype,), partial(mean_of_free_runs, dtype))


def laws_of_learning(dtype: str, profile: Profile) -> Iterator[Case]:
    """List the laws of optimizers and learners."""
    yield on_backend(f"{dtype}/learning/optimizers", dtype, check_optimizers)
    check = of(UORO(), check_learner)
    yield on_systems(f"{dtype}/learning/learner", dtype, check, gallery=profile.few[:1])
