"""Samplers whose signs depend on each other are refused, on every backend; right ones are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from uoro_conformance.dependence import check_dependence
from uoro_conformance.mutants.dependent import DEPENDENT, INDEPENDENT, OVER_TIME
from uoro_conformance.wide_draws import check_large_draws, check_wide_draws, wide_draws

from uoro import Backend, load_backend

STEPS = 24


def test_the_draws_of_each_backend_are_independent(backend: Backend) -> None:
    finding = check_wide_draws(backend, "float64", steps=80).require()
    for name in ("complex, imaginary", "large", "scalar", "small"):
        assert name in finding.evidence
    assert finding.resolves < 0.02
    assert 0 < finding.false_alarm <= 1e-12
    check_large_draws(backend, "float64").require()


@pytest.mark.parametrize("name", [name for name in DEPENDENT if "65,536" not in name])
def test_dependent_signs_are_refused(backend: Backend, name: str) -> None:
    steps = 90 if "40" in name else STEPS
    finding = check_wide_draws(DEPENDENT[name](backend), "float64", steps=steps)
    assert finding.verdict == "broken", finding


@pytest.mark.parametrize("name", INDEPENDENT)
def test_other_independent_signs_are_not(name: str) -> None:
    backend = load_backend("torch")
    check_wide_draws(INDEPENDENT[name](backend), "float64", steps=STEPS).require()


@pytest.mark.parametrize("name", OVER_TIME)
def test_signs_that_depend_over_time_are_refused(name: str) -> None:
    draws = OVER_TIME[name](np.random.default_rng(0), (1, 128, 4, 100))
    finding = check_dependence(draws)
    assert finding.verdict == "broken", finding
    check_dependence(np.random.default_rng(1).choice([-1, 1], draws.shape)).require()


def test_fair_signs_are_not_refused_in_many_trials() -> None:
    """The gap is log10 of an e-value: at most 3 but once in a thousand trials."""
    generator = np.random.default_rng(2)
    gaps = []
    for _ in range(60):
        draws: Any = generator.choice([-1, 1], (2, 24, 3, 20))
        gaps.append(check_dependence(draws, {"a": slice(0, 4), "b": slice(4, 20)}).require().gap)
    assert max(gaps) < 3
    assert min(gaps) < 0.5


def test_values_other_than_signs_are_refused() -> None:
    assert check_dependence(np.zeros((1, 4, 1, 2))).verdict == "broken"


def test_leaves_that_a_backend_lacks_are_left_out() -> None:
    class Poor:
        lacks = {"complex": "none", "integers": "none"}  # noqa: RUF012

        def __getattr__(self, name: str) -> Any:
            return getattr(load_backend("autograd"), name)

    poor: Any = Poor()
    draws, leaves = wide_draws(poor, "float64", steps=2)
    assert set(leaves) == {"large", "scalar", "small"}
    assert draws.shape == (2, 2, 16, 306)


def test_a_large_leaf_that_repeats_is_refused(backend: Backend) -> None:
    finding = check_large_draws(DEPENDENT["entries repeat after 65,536"](backend), "float64")
    assert finding.verdict == "broken"
    assert "offsets" in finding.evidence
