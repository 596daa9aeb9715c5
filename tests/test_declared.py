"""Estimators that are what they declare, and ones that are not."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
from uoro_conformance import (
    GALLERY,
    check_adjointness,
    check_chain,
    check_declaration,
    check_unbiased,
)
from uoro_conformance.mutants.differenced import Differenced
from uoro_conformance.systems import influence_balancing

from uoro import RTRL, UORO, Backend, load_backend
from uoro.estimators import Truncated


def test_chunked_truncation_on_influence_balancing_has_the_wrong_sign(backend: Backend) -> None:
    trial = influence_balancing(backend).unrolled(10)
    finding = check_unbiased(trial, Truncated())
    assert finding.verdict == "biased"
    assert "the wrong sign" in finding.evidence
    assert finding.gap > 1.0, "the bias is larger than the gradient"
    declared = check_declaration(trial, Truncated()).require()
    assert "wrong sign" in declared.evidence
    assert "Truncated() is biased, as it declares" in declared.law


@dataclass(frozen=True)
class Boasting:
    """Truncation that declares itself something else."""

    guarantee: Any

    def init(self, *arguments: Any, inputs: Any = None) -> tuple[()]:
        return ()

    def draw(self, sampler: Any, state: Any) -> None:
        return None

    def step(self, *arguments: Any) -> Any:
        return Truncated().step(*arguments)


@pytest.mark.parametrize("guarantee", ["exact", "unbiased"])
def test_truncation_that_declares_itself_otherwise_is_refused(guarantee: str) -> None:
    trial = influence_balancing(load_backend("autograd"), steps=60).unrolled(10)
    assert check_declaration(trial, Boasting(guarantee)).verdict == "biased"


def test_a_gradient_that_is_no_number_proves_nothing() -> None:
    @dataclass(frozen=True)
    class NoNumber(Boasting):
        def step(self, *arguments: Any) -> Any:
            carry, state, estimate = Truncated().step(*arguments)
            backend = arguments[0].backend
            gradient = backend.combine((float("nan"), estimate.gradient))
            return carry, state, estimate._replace(gradient=gradient)

    trial = GALLERY[0].build(load_backend("autograd"))
    for guarantee in ("exact", "unbiased", "biased"):
        assert check_declaration(trial, NoNumber(guarantee)).verdict == "unverifiable"


def test_rtrl_is_exact_and_uoro_unbiased_as_they_declare(backend: Backend) -> None:
    trial = GALLERY[0].build(backend)
    for estimator in (RTRL(), UORO(), UORO(rank=2), UORO(distribution="gaussian")):
        check_declaration(trial, estimator).require()


def test_a_difference_quotient_in_float32_is_biased_and_the_bias_measured() -> None:
    for name in ("autograd", "torch", "jax"):
        backend = load_backend(name)
        with backend.precision("float32"):
            trial = influence_balancing(backend, steps=20, dtype="float32")
            check_chain(trial, UORO()).require()
            trial = replace(trial, dynamics=Differenced(trial.dynamics))
            finding = check_chain(trial, UORO())
            assert finding.verdict == "biased"
            percent = re.search(r"off by ([\d.]+)%", finding.evidence)
            assert percent is not None
            assert 5 < float(percent[1]) < 40, finding
            assert check_adjointness(*trial.first).verdict == "broken"
