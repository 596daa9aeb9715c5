"""Wrong dynamics and backends, and right ones: each mistake is refused by its check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from uoro_conformance import GALLERY
from uoro_conformance.backend import check_sizes
from uoro_conformance.mutants.self_test import (
    DERIVATIVE_KILLERS,
    check_wrong_dynamics_are_refused,
    refuse_dynamics,
)
from uoro_conformance.mutants.wrong_backends import WRONG_SIZES
from uoro_conformance.mutants.wrong_dynamics import RIGHT_DYNAMICS, WRONG_DYNAMICS, WrongDynamics

from uoro import Backend, load_backend


@pytest.mark.parametrize("wrong", WRONG_DYNAMICS, ids=lambda wrong: str(wrong.name))
def test_wrong_dynamics_are_refused_by_their_check(backend: Backend, wrong: WrongDynamics) -> None:
    finding = refuse_dynamics(GALLERY[0].build(backend), wrong)
    assert finding.verdict == "broken", finding
    assert finding.gap > 10 * finding.allowed


@pytest.mark.parametrize("name", RIGHT_DYNAMICS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dynamics_that_differ_in_rounding_are_not(backend: Backend, name: str, dtype: Any) -> None:
    with backend.precision(dtype):
        trial = GALLERY[0].build(backend, dtype)
        altered = replace(trial, dynamics=RIGHT_DYNAMICS[name](trial))
        for check in DERIVATIVE_KILLERS.values():
            check(altered, 0).require()


def test_the_self_test_names_dynamics_that_got_through(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = GALLERY[0].build(load_backend("autograd"))
    check_wrong_dynamics_are_refused(trial).require()
    right = WrongDynamics("nothing is wrong", "true", lambda trial: trial.dynamics)
    monkeypatch.setattr("uoro_conformance.mutants.self_test.WRONG_DYNAMICS", (right,))
    assert "not: nothing is wrong" in check_wrong_dynamics_are_refused(trial).evidence


@pytest.mark.parametrize("name", WRONG_SIZES)
def test_a_backend_that_is_wrong_at_some_size_is_refused(backend: Backend, name: str) -> None:
    finding = check_sizes(WRONG_SIZES[name](backend), "float64")
    assert finding.verdict == "broken", finding


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sizes_make_no_difference(backend: Backend, dtype: Any) -> None:
    with backend.precision(dtype):
        check_sizes(backend, dtype).require()
