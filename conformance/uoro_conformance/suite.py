"""The list of laws: the name of each, and the check that decides it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from uoro.estimator import Estimator
from uoro.estimators import (
    UORO,
    BlockRTRL,
    JointUORO,
    KroneckerSum,
    RollingTruncated,
    SnAp,
)
from uoro.estimators.streams import Streams
from uoro_conformance.backend import BACKEND_LAWS
from uoro_conformance.cases import (
    Case,
    at_every_step,
    at_first_step,
    many_streams,
    of,
    of_two_steps_as_one,
    on_backend,
    on_systems,
    sweep_several,
)
from uoro_conformance.declared import check_declaration
from uoro_conformance.exact import (
    check_chain,
    check_determinism,
    check_gradient_path,
    check_outcome,
    check_sign_equivariance,
)
from uoro_conformance.further_laws import (
    BESIDE,
    JOINT,
    JOINT_TWO,
    laws_of_learning,
    laws_of_predictions,
    laws_of_sampling,
)
from uoro_conformance.in_session import (
    added_variance,
    all_sign_sequences,
    all_signs_beside,
    all_signs_of_terms,
    declared_on,
    long_run,
    rtrl_sums_to_bptt,
    self_test,
    truncation,
)
from uoro_conformance.kronecker import check_terms_by_dense_reference
from uoro_conformance.laws import (
    check_adjointness,
    check_outcomes_agree,
    check_purity,
)
from uoro_conformance.linearity import check_linearity
from uoro_conformance.many import check_many
from uoro_conformance.mapped import check_mapped
from uoro_conformance.mutants.self_test import (
    check_right_are_not_biased,
    check_wrong_are_refused,
    check_wrong_dynamics_are_refused,
)
from uoro_conformance.parity import check_parity
from uoro_conformance.prediction import PREDICTOR
from uoro_conformance.profiles import Profile
from uoro_conformance.streams import check_streams
from uoro_conformance.structure import check_broken_structure, check_factors
from uoro_conformance.sweeps import check_sweep
from uoro_conformance.systems import System
from uoro_conformance.terms import check_chain_of_terms, check_own_signs
from uoro_conformance.truth import check_truth

DTYPES = ("float64", "float32")
"""Both are checked: that a law holds in float64 does not imply that it holds in float32."""

SCALED = JointUORO(2, scaling="rows")
"""Joint pairs whose projections are scaled by how far the params move each state coordinate."""

TERMS = {"kron:1": KroneckerSum(1), "kron:2": KroneckerSum(2)}
"""Kronecker sums: more terms than a small system needs are carried exactly."""

UNMIXED, GATED = [System("rtu", 2, 6), System("elstm", 3, 6)], System("gru", 2, 6)
"""Systems whose units do not mix, of one and of two coordinates a unit; and one whose units do."""

DERIVATIVE_LAWS: dict[str, Any] = {
    "adjoint": check_adjointness,
    "linear": check_linearity,
    "mapped": check_mapped,
    "true": check_truth,
    "agree": check_outcomes_agree,
    "sweep": check_sweep,
    "pure": check_purity,
}
"""The laws of `Dynamics`, by name."""

STEP_LAWS: dict[str, Any] = {
    "outcome": check_outcome,
    "chain": check_chain,
    "gradient": check_gradient_path,
}
"""The laws of a step of an estimator that carries pairs, by name; they share measurements."""

TERM_LAWS: dict[str, Any] = {
    "exact/chain": check_chain_of_terms,
    "exact/signs": check_own_signs,
    "parity": check_terms_by_dense_reference,
}
"""The laws of a step of Kronecker sums, by name."""


def cases(profile: Profile, lacks: Container[str] = ()) -> list[Case]:
    """List all cases of a profile, in the order of a report.

    All laws of one estimator follow each other, so that its compiled programs can be dropped
    afterwards.

    Args:
        profile: Amount of work.
        lacks: What the backend does not support. Laws that are checked in one dtype only are
            checked in the first dtype that the backend has.
    """
    first = next((dtype for dtype in DTYPES if dtype not in lacks), DTYPES[0])
    found = list[Case]()
    for dtype in DTYPES:
        found += _backend_laws(dtype)
        found += _derivative_laws(dtype, profile)
        further = _laws_of_each_estimator(dtype, profile) if dtype == first else {}
        for name, estimator, gallery in _estimators(profile):
            found += _step_laws(dtype, name, estimator, gallery)
            found += further.get(name, ())
        if dtype == first:
            found += _laws_of_terms(dtype, profile)
            found += _laws_of_declarations(dtype, profile)
            found += laws_of_predictions(dtype)
            found += laws_of_sampling(dtype)
            found += laws_of_learning(dtype, profile)
    if profile.self_test:
        wrong, right = check_wrong_are_refused, check_right_are_not_biased
        found.append(Case(f"{first}/self-test/wrong", (first,), self_test(wrong, first)))
        found.append(Case(f"{first}/self-test/right", (first,), self_test(right, first)))
        dynamics = self_test(check_wrong_dynamics_are_refused, first)
        found.append(Case(f"{first}/self-test/dynamics", (first,), dynamics))
    return found


def _backend_laws(dtype: str) -> Iterator[Case]:
    for name, check in BACKEND_LAWS.items():
        needs = [name] if name in ("integers", "complex") else []
        yield on_backend(f"{dtype}/backend/{name}", dtype, check, *needs)


def _derivative_laws(dtype: str, profile: Profile) -> Iterator[Case]:
    few = profile.few[:2]
    for name, law in DERIVATIVE_LAWS.items():
        gallery = few if name == "mapped" else None
        yield on_systems(f"{dtype}/derivatives/{name}", dtype, at_every_step(law), gallery=gallery)
    yield on_systems(f"{dtype}/derivatives/sweeps", dtype, sweep_several, gallery=few)
    yield on_systems(f"{dtype}/derivatives/many", dtype, many_streams, gallery=few)
    for name, law in (DERIVATIVE_LAWS | {"many": check_many}).items():
        check = at_first_step(law)
        yield on_systems(f"{dtype}/outputs/{name}", dtype, check, gallery=[PREDICTOR])
    yield on_systems(f"{dtype}/outputs/sweeps", dtype, sweep_several, gallery=[PREDICTOR])


def _estimators(profile: Profile) -> list[tuple[str, Estimator, Sequence[System] | None]]:
    """List the estimators that carry pairs: name, estimator, and a gallery of its own if any."""
    few = profile.few
    return [
        ("uoro", UORO(), None),
        ("uoro:rank=2", UORO(rank=2), few),
        ("joint:1", JOINT, few),
        ("joint:2", JOINT_TWO, few),
        ("joint:2,scaling=rows", SCALED, few),
        ("uoro:memory=2", UORO(), few[:2]),
    ]


def _step_laws(
    dtype: str, name: str, estimator: Estimator, gallery: Sequence[System] | None
) -> Iterator[Case]:
    if name == "uoro":
        check = of(estimator, check_determinism)
        yield on_systems(f"{dtype}/exact/determinism/uoro", dtype, check)
    adapted = of_two_steps_as_one if name == "uoro:memory=2" else of
    for law, of_step in STEP_LAWS.items():
        check = adapted(estimator, of_step)
        yield on_systems(f"{dtype}/exact/{law}/{name}", dtype, check, gallery=gallery)


def _laws_of_each_estimator(dtype: str, profile: Profile) -> Mapping[str, Sequence[Case]]:
    """List the laws that are checked in one dtype only, by the name of the estimator."""
    few = profile.few

    def parity(name: str, estimator: Estimator, gallery: Sequence[System] | None) -> Case:
        check = of(estimator, check_parity)
        return on_systems(f"{dtype}/parity/{name}", dtype, check, gallery=gallery)

    def variance(name: str, joint: JointUORO, systems: Sequence[System]) -> Case:
        check = added_variance(joint, dtype, systems)
        return Case(f"{dtype}/exact/variance/{name}", (dtype,), check)

    def enumeration(name: str, estimator: UORO | JointUORO) -> Case:
        check = all_sign_sequences(estimator, dtype)
        return Case(f"{dtype}/exact/enumeration/{name}", (dtype,), check)

    def streams(name: str, several: Streams, gallery: Sequence[System]) -> Case:
        check = of(several, check_streams)
        return on_systems(f"{dtype}/streams/{name}", dtype, check, gallery=gallery)

    equivariance = of(UORO(), check_sign_equivariance)
    return {
        "uoro": [
            on_systems(f"{dtype}/exact/equivariance/uoro", dtype, equivariance),
            Case(f"{dtype}/exact/horizon/uoro", (dtype,), long_run(UORO(), dtype)),
            parity("uoro", UORO(), None),
            enumeration("uoro", UORO()),
            streams("uoro", Streams(UORO(), 3), few),
            streams("uoro:streams=16", Streams(UORO(), 16), few[:1]),
        ],
        "uoro:rank=2": [
            parity("uoro:rank=2", UORO(rank=2), few),
            streams("uoro:rank=2", Streams(UORO(rank=2), 2), few[:1]),
        ],
        "joint:1": [
            parity("joint:1", JOINT, few[:1]),
            variance("joint:1", JOINT, few[:1]),
            enumeration("joint:1", JOINT),
        ],
        "joint:2": [
            parity("joint:2", JOINT_TWO, few),
            variance("joint:2", JOINT_TWO, few),
            streams("joint:2", Streams(JOINT_TWO, 2), few[:1]),
        ],
        "joint:2,scaling=rows": [
            parity("joint:2,scaling=rows", SCALED, few[:1]),
            variance("joint:2,scaling=rows", SCALED, few[:1]),
        ],
    }


def _laws_of_terms(dtype: str, profile: Profile) -> Iterator[Case]:
    """List the laws of Kronecker sums; they are checked in one dtype only."""
    halves = {"kron:1": profile.few[1::2] or profile.few, "kron:2": profile.few[::2]}
    for name, estimator in TERMS.items():
        few = halves[name]
        for law, check in TERM_LAWS.items():
            each = of(estimator, check)
            yield on_systems(f"{dtype}/{law}/{name}", dtype, each, gallery=few)
        means = all_signs_of_terms(estimator, dtype, few)
        yield Case(f"{dtype}/exact/enumeration/{name}", (dtype,), means)
    factors = of(KroneckerSum(), check_factors)
    yield on_systems(f"{dtype}/structure/factors", dtype, factors, gallery=profile.few)
    yield on_backend(f"{dtype}/structure/broken", dtype, check_broken_structure)


def _laws_of_declarations(dtype: str, profile: Profile) -> Iterator[Case]:
    yield on_systems(f"{dtype}/declared/rtrl", dtype, rtrl_sums_to_bptt)
    rolling = of(RollingTruncated(2), check_declaration)
    yield on_systems(f"{dtype}/declared/rolling:2", dtype, rolling, gallery=profile.few)
    yield Case(f"{dtype}/declared/block", (dtype,), declared_on(BlockRTRL(), dtype, UNMIXED))
    yield Case(f"{dtype}/declared/snap", (dtype,), declared_on(SnAp(), dtype, [GATED]))
    beside = all_signs_beside(BESIDE, dtype)
    yield Case(f"{dtype}/exact/enumeration/uoro:baseline=diagonal", (dtype,), beside)
    yield Case(f"{dtype}/declared/tbptt:10", (dtype,), partial(truncation, dtype))
