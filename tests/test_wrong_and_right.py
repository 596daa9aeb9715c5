"""Each wrong estimator is refused by its check, and no right one is called biased."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from uoro_conformance import (
    GALLERY,
    System,
    check_chain,
    check_gradient_path,
    check_parity,
)
from uoro_conformance.designs import hadamard_designs
from uoro_conformance.finding import Finding, Verdict, worst
from uoro_conformance.right import RIGHT
from uoro_conformance.self_test import (
    BIAS,
    check_right_are_not_biased,
    check_wrong_are_refused,
    refuse,
)
from uoro_conformance.systems import systems
from uoro_conformance.variants import Variant
from uoro_conformance.wrong import WRONG, Mutant

from uoro import UORO, Backend, load_backend


@pytest.mark.parametrize("mutant", WRONG, ids=lambda mutant: mutant.estimator.name)
def test_each_wrong_estimator_is_killed_by_its_check(backend: Backend, mutant: Mutant) -> None:
    finding = refuse(GALLERY[0].build(backend), mutant)
    assert finding.verdict == ("broken" if mutant.killed_by == "streams" else "biased"), finding
    assert finding.gap > 10 * finding.allowed or finding.allowed == 0.0


@pytest.mark.parametrize("variant", RIGHT, ids=lambda variant: variant.name)
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
        for variant in RIGHT:
            for check in (check_chain, check_gradient_path):
                assert check(trial, variant).verdict in ("holds", "unverifiable"), variant.name


def test_a_bias_is_reported_before_what_proves_nothing() -> None:
    verdicts: list[Verdict] = ["holds", "unverifiable", "biased", "holds"]
    findings = [Finding("law", verdict, 1.0, 1.0, "") for verdict in verdicts]
    assert worst(findings).verdict == "biased"
    assert worst(findings[:2]).verdict == "unverifiable"
    assert worst(findings[:1]).verdict == "holds"
    sizes = [Finding("law", "biased", gap, 1.0, "") for gap in (2.0, math.inf, 3.0)]
    assert worst(sizes).gap == math.inf


def test_the_self_test_of_the_suite_names_who_got_through(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = GALLERY[0].build(load_backend("torch"))
    check_wrong_are_refused(trial).require()
    check_right_are_not_biased(trial).require()
    monkeypatch.setattr("uoro_conformance.self_test.WRONG", (Mutant(UORO(), "chain"), WRONG[0]))
    monkeypatch.setattr("uoro_conformance.self_test.RIGHT", (WRONG[0].estimator,))
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


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
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
