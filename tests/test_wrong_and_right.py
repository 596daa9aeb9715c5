"""Each wrong estimator is refused by its check, and no right one is called biased."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from uoro_conformance import (
    GALLERY,
    System,
    check_added_variance,
    check_chain,
    check_determinism,
    check_gradient_path,
    check_mean_over_all_signs,
    check_parity,
    check_rtrl_sums_to_bptt,
    check_streams,
)
from uoro_conformance.dense import reduce_densely
from uoro_conformance.designs import hadamard_designs
from uoro_conformance.explore import explore
from uoro_conformance.finding import Finding, Verdict, worst
from uoro_conformance.in_session import LONG, check_horizon
from uoro_conformance.mutants.right import RIGHT
from uoro_conformance.mutants.right_joint import RIGHT_JOINT
from uoro_conformance.mutants.self_test import (
    BIAS,
    check_right_are_not_biased,
    check_wrong_are_refused,
    refuse,
)
from uoro_conformance.mutants.variants import Mutant, Variant, push_by_jvp
from uoro_conformance.mutants.wrong import WRONG
from uoro_conformance.mutants.wrong_clocks import CLOCKS
from uoro_conformance.mutants.wrong_joint import WRONG_JOINT
from uoro_conformance.systems import systems

from uoro import UORO, Backend, Streams, load_backend

VERDICTS = {
    "streams": "broken",
    "outcome": "broken",
    "prediction": "broken",
    "equivariance": "not Algorithm 1",
}
OF_SINGLE_PAIRS = [mutant for mutant in WRONG if mutant not in WRONG_JOINT]
RIGHT_SINGLE = [variant for variant in RIGHT if variant not in RIGHT_JOINT]


def _name(made: Any) -> str:
    return str(getattr(made, "estimator", made).name)


@pytest.mark.parametrize("mutant", [*OF_SINGLE_PAIRS, *WRONG_JOINT[3:5]], ids=_name)
def test_each_wrong_estimator_is_killed_by_its_check(backend: Backend, mutant: Mutant) -> None:
    finding = refuse(GALLERY[0].build(backend), mutant)
    assert finding.verdict == VERDICTS.get(mutant.killed_by, "biased"), finding
    assert finding.gap > 10 * finding.allowed or finding.allowed == 0.0


def test_each_wrong_estimator_of_joint_pairs_is_killed_by_its_check() -> None:
    """On the backend that maps without compiling; the others have some of them above."""
    trial = GALLERY[0].build(load_backend("torch"))
    for mutant in WRONG_JOINT:
        finding = refuse(trial, mutant)
        assert finding.gap > 10 * finding.allowed, mutant.estimator.name
        bias = {check(trial, mutant.estimator).verdict for check in BIAS.values()}
        if mutant.killed_by == "variance":
            fewer = "fewer" in mutant.estimator.name
            assert finding.verdict == ("not Algorithm 1" if fewer else "broken"), finding
            assert bias == {"holds"}, "no more than noise"
        else:
            assert finding.verdict == "biased", finding


@pytest.mark.parametrize("variant", [*RIGHT_SINGLE, *RIGHT_JOINT[:1]], ids=_name)
def test_no_right_estimator_is_called_biased(backend: Backend, variant: Any) -> None:
    trial = GALLERY[0].build(backend)
    verdicts = {name: check(trial, variant).verdict for name, check in BIAS.items()}
    allowed = (
        {"holds", "unverifiable"}
        if "inverted" in variant.name or "swapped" in variant.name
        else {"holds"}
    )
    assert set(verdicts.values()) <= allowed, verdicts


@pytest.mark.parametrize("name", ["autograd", "torch"])
def test_no_right_estimator_is_called_biased_for_its_rounding(name: str) -> None:
    backend = load_backend(name)
    with backend.precision("float32"):
        trial = GALLERY[0].build(backend, "float32")
        for variant in RIGHT if name == "torch" else RIGHT_SINGLE:
            for check in (check_chain, check_gradient_path):
                assert check(trial, variant).verdict in ("holds", "unverifiable"), variant.name


def test_no_other_reduction_of_joint_pairs_adds_less_variance() -> None:
    """That of the library is the least: of the shipped ones, and of unit rows drawn at random."""
    trial = GALLERY[0].build(load_backend("torch"))
    more = {"joint: equal shares", "joint: each old pair with a fresh one"}
    for variant in RIGHT_JOINT:
        verdict: Verdict = "not Algorithm 1" if variant.name in more else "holds"
        assert check_added_variance(trial, variant).verdict == verdict, variant.name
    generator = np.random.default_rng(0)
    for rank, count in ((1, 3), (2, 5), (3, 6)):
        for _ in range(200):
            dense = generator.normal(size=(count, count)) * generator.exponential(size=count) ** 2
            reduced = reduce_densely(dense, rank)
            rows = generator.normal(size=(count, rank)) * generator.exponential(size=(rank,))
            rows /= np.linalg.norm(rows, axis=1)[:, None]
            for unit in (rows, reduced.frame):
                inner, d = unit @ unit.T, reduced.values
                added = d @ (inner**2) @ d - ((d * np.diag(inner)) ** 2).sum()
                assert added >= reduced.added - 1e-9 * (d @ d)
            assert added == pytest.approx(reduced.added, abs=1e-9 * (d @ d))


@pytest.mark.parametrize(
    ("name", "variant"),
    [("autograd", CLOCKS[0]), ("jax", CLOCKS[1]), *(("torch", each) for each in CLOCKS)],
    ids=lambda each: str(getattr(each, "name", each)),
)
def test_what_is_right_for_a_while_is_refused(name: str, variant: Variant) -> None:
    backend = load_backend(name)
    with backend.precision("float64"):
        finding = check_horizon(LONG.build(backend), variant)
    assert finding.verdict == "biased", finding
    assert "40 steps were looked at" in finding.evidence


def test_a_long_run_has_the_sizes_of_a_short_one() -> None:
    assert LONG.is_lively()
    check_horizon(LONG.build(load_backend("torch")), UORO()).require()


class Nan(Streams):
    """Streams whose first gradient is no number."""

    def step(self, *arguments: Any) -> Any:
        after, following, estimate = super().step(*arguments)
        gradient = arguments[0].backend.combine((math.nan, estimate.gradient))
        return after, following, estimate._replace(gradient=gradient)


class KeepsItsState(Streams):
    """Streams whose reset forgets the state."""

    def reset(self, *arguments: Any, inputs: Any = None) -> Any:
        carry, _ = super().reset(*arguments, inputs=inputs)
        return carry, arguments[3]


class OnlyOnce:
    """A check that refuses what it is asked for the first time."""

    def __init__(self) -> None:
        self.asked = set[System]()

    def __call__(self, system: System) -> Finding:
        known = system in self.asked
        self.asked.add(system)
        return Finding("law", "holds" if known else "biased", 0.0, 1.0, "why", repr(system))


def test_streams_that_are_no_numbers_or_keep_their_state_are_refused() -> None:
    trial = GALLERY[0].build(load_backend("autograd"))
    check_streams(trial, Streams(UORO(), 2)).require()
    assert check_streams(trial, Nan(UORO(), 2)).verdict == "broken"
    assert "state of the last stream" in check_streams(trial, KeepsItsState(UORO(), 2)).evidence


def test_a_refusal_shrinks_to_the_smallest_system_that_is_refused() -> None:
    def check(system: System) -> Finding:
        verdict: Verdict = "biased" if system.n >= 3 else "unverifiable"
        return Finding("law", verdict, 2.0, 1.0, "why", repr(system))

    finding = explore(check, gallery=GALLERY[:1], examples=10, seed=0)
    assert finding.verdict == "biased", "and not what a smaller system would say"
    assert "kind='linear', n=3, steps=3, seed=0" in finding.system
    assert "First on System(kind='tanh'" in finding.evidence


def test_a_check_that_contradicts_itself_proves_nothing() -> None:
    finding = explore(OnlyOnce(), gallery=(), examples=10, seed=0)
    assert finding.verdict == "unverifiable"
    assert "Checked again" in finding.evidence


def test_randomness_inside_an_estimator_is_no_bias() -> None:
    generator = np.random.default_rng(0)

    def noisy(now: Any) -> Any:
        factor = 1.0 + 0.1 * generator.normal()
        return now.backend.combine((factor, push_by_jvp(now)))

    trial = GALLERY[0].build(load_backend("autograd"))
    variant = Variant("random jvp", push=noisy)
    assert check_determinism(trial, variant).verdict == "unverifiable"
    assert check_chain(trial, variant).verdict == "unverifiable"


def test_a_model_without_influence_is_no_noise() -> None:
    """Nothing reaches the next state: all terms are as small as ε makes them."""
    backend = load_backend("autograd")
    trial = GALLERY[0].build(backend)

    def transition(params: Any, state: Any, inputs: Any) -> Any:
        return 0.0 * state, (params["b"] * inputs["x"][0]).sum()

    trial = replace(trial, dynamics=backend.dynamics(transition))
    check_chain(trial, UORO()).require()


def test_tolerances_follow_the_dtype() -> None:
    backend = load_backend("autograd")
    with backend.precision("float32"):
        trial = GALLERY[1].build(backend, "float32")
        check_parity(trial, UORO()).require()
        everything = trial.dynamics, trial.params, trial.state, trial.items
        check_mean_over_all_signs(*everything).require()
        check_rtrl_sums_to_bptt(trial.dynamics, trial.params[0], *everything[2:]).require()


def test_a_bias_is_reported_before_what_proves_nothing() -> None:
    verdicts: list[Verdict] = ["holds", "unverifiable", "biased", "holds"]
    findings = [Finding("law", verdict, 1.0, 1.0, "") for verdict in verdicts]
    assert worst(findings).verdict == "biased"
    assert worst(findings[:2]).verdict == "unverifiable"
    assert worst(findings[:1]).verdict == "holds"
    sizes = [Finding("law", "biased", gap, 1.0, "") for gap in (2.0, math.inf, 3.0)]
    assert worst(sizes).gap == math.inf


def test_the_self_test_of_the_suite_names_who_got_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a few of each: all of them are looked at one by one above."""
    trial = GALLERY[0].build(load_backend("torch"))
    self_test = "uoro_conformance.mutants.self_test"
    monkeypatch.setattr(f"{self_test}.WRONG", WRONG[:3])
    monkeypatch.setattr(f"{self_test}.RIGHT", RIGHT[:3])
    check_wrong_are_refused(trial).require()
    check_right_are_not_biased(trial).require()
    monkeypatch.setattr(f"{self_test}.WRONG", (Mutant(UORO(), "chain"), WRONG[0]))
    monkeypatch.setattr(f"{self_test}.RIGHT", (WRONG[0].estimator,))
    assert check_right_are_not_biased(trial).verdict == "broken"
    monkeypatch.setattr(UORO, "name", "Algorithm 1", raising=False)
    assert "1 of 2; not: Algorithm 1" in check_wrong_are_refused(trial).evidence


def test_parity_tells_other_numbers_apart_without_calling_them_biased() -> None:
    trial = GALLERY[0].build(load_backend("autograd"))
    verdicts = {
        variant.name: check_parity(trial, variant).verdict
        for variant in RIGHT
        if isinstance(variant, Variant)
    }
    paper = {"Algorithm 1, piece by piece", "Gaussian ν", "spherical ν"}
    for name, verdict in verdicts.items():
        assert verdict == ("holds" if name in paper else "not Algorithm 1"), name
    for joint in RIGHT_JOINT:
        same = joint.name in {"joint: the library's, piece by piece", "joint: unit rows turned"}
        verdict = "holds" if same else "not Algorithm 1"
        assert check_parity(trial, joint).verdict == verdict, joint.name


@settings(max_examples=15, derandomize=True, database=None, deadline=None)
@given(systems())
def test_the_reference_passes_on_systems_nobody_picked(system: System) -> None:
    trial = system.build(load_backend("autograd"))
    for check in BIAS.values():
        check(trial, UORO()).require()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_hadamard_designs_are_balanced(n: int) -> None:
    designs = hadamard_designs(n, seed=n)
    np.testing.assert_array_equal(designs.T @ designs / len(designs), np.eye(n))
    rows = {tuple(row) for row in designs}
    assert {tuple(-np.array(row)) for row in rows} == rows


def test_a_system_is_made_again_from_its_line() -> None:
    system = GALLERY[-1]
    again: System = eval(repr(system))
    for a, b in zip(system.numbers()[0], again.numbers()[0], strict=True):
        np.testing.assert_array_equal(a["fast"]["W"], b["fast"]["W"])
