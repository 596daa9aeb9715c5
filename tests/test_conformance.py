"""The checks themselves: right things pass, and each wrong thing is refused by the check for it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from uoro_conformance import (
    GALLERY,
    System,
    Trial,
    check_adjointness,
    check_chain,
    check_determinism,
    check_gradient_path,
    check_linearity,
    check_outcomes_agree,
    check_parity,
    check_purity,
    check_rtrl_sums_to_bptt,
    check_sign_equivariance,
    check_signs,
    check_truth,
    drawn_signs,
)
from uoro_conformance.designs import hadamard_designs
from uoro_conformance.finding import Finding, Verdict, largest, worst
from uoro_conformance.right import RIGHT
from uoro_conformance.sampling import log_e_value
from uoro_conformance.systems import systems
from uoro_conformance.variants import Variant
from uoro_conformance.wrong import WRONG, Mutant

from uoro import UORO, Backend, load_backend

EXACT = {
    "chain": check_chain,
    "gradient": check_gradient_path,
    "equivariance": check_sign_equivariance,
}


@pytest.mark.parametrize("system", GALLERY, ids=lambda system: system.kind)
def test_the_library_passes_on_the_gallery(backend: Backend, system: System) -> None:
    trial = system.build(backend)
    first = trial.dynamics, trial.params[0], trial.state, trial.items[0]
    for law in (check_adjointness, check_linearity, check_truth, check_outcomes_agree):
        law(*first).require()
    check_purity(*first).require()
    check_rtrl_sums_to_bptt(trial.dynamics, trial.params[0], trial.state, trial.items).require()
    for check in EXACT.values():
        check(trial, UORO()).require()
    check_determinism(trial, UORO()).require()
    check_parity(trial, UORO()).require()


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
@pytest.mark.parametrize("system", GALLERY[:3] + GALLERY[-1:], ids=lambda system: system.kind)
def test_the_library_passes_in_float32_and_with_two_ranks(name: str, system: System) -> None:
    backend = load_backend(name)
    with backend.precision("float32"):
        trial = system.build(backend, "float32")
        first = trial.dynamics, trial.params[0], trial.state, trial.items[0]
        for law in (check_adjointness, check_linearity, check_truth, check_outcomes_agree):
            law(*first, dtype="float32").require()
        check_chain(trial, UORO(rank=2), dtype="float32").require()
        check_gradient_path(trial, UORO(rank=2), dtype="float32").require()


@pytest.mark.parametrize("mutant", WRONG, ids=lambda mutant: mutant.estimator.name)
def test_each_wrong_estimator_is_killed_by_its_check(backend: Backend, mutant: Mutant) -> None:
    finding = EXACT[mutant.killed_by](GALLERY[0].build(backend), mutant.estimator)
    assert finding.verdict == "biased", finding
    assert finding.gap > 10 * finding.allowed or finding.allowed == 0.0


@pytest.mark.parametrize("variant", RIGHT, ids=lambda variant: variant.name)
def test_no_right_estimator_is_called_biased(backend: Backend, variant: Variant) -> None:
    trial = GALLERY[0].build(backend)
    verdicts = {name: check(trial, variant).verdict for name, check in EXACT.items()}
    allowed = (
        {"holds", "unverifiable"}
        if "inverted" in variant.name or "swapped" in variant.name
        else {"holds"}
    )
    assert set(verdicts.values()) <= allowed, verdicts


def test_a_bias_is_reported_before_what_proves_nothing() -> None:
    verdicts: list[Verdict] = ["holds", "unverifiable", "biased", "holds"]
    findings = [Finding("law", verdict, 1.0, 1.0, "") for verdict in verdicts]
    assert worst(findings).verdict == "biased"
    assert worst(findings[:2]).verdict == "unverifiable"
    assert worst(findings[:1]).verdict == "holds"


def test_parity_tells_other_numbers_apart_without_calling_them_biased() -> None:
    trial = GALLERY[0].build(load_backend("autograd"))
    verdicts = {variant.name: check_parity(trial, variant).verdict for variant in RIGHT}
    paper = {"Algorithm 1, piece by piece", "Gaussian ν", "spherical ν"}
    for name, verdict in verdicts.items():
        assert verdict == ("holds" if name in paper else "not Algorithm 1"), name


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(systems())
def test_the_reference_passes_on_systems_nobody_picked(system: System) -> None:
    trial = system.build(load_backend("autograd"))
    for check in EXACT.values():
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


# Dynamics that break a law.


class Changed:
    """Dynamics with one method replaced."""

    span = 1

    def __init__(self, dynamics: Any, **methods: Any) -> None:
        self.backend = dynamics.backend
        self.forward, self.jvp, self.vjp = dynamics.forward, dynamics.jvp, dynamics.vjp
        self.__dict__.update(methods)


def _first(trial: Trial) -> tuple[Any, Any, Any, Any]:
    return trial.dynamics, trial.params[0], trial.state, trial.items[0]


def _with_pullback(dynamics: Any, change: Any) -> Changed:
    def vjp(*arguments: Any) -> Any:
        outcome, pullback = dynamics.vjp(*arguments)
        return outcome, lambda *cotangents: change(*pullback(*cotangents))

    return Changed(dynamics, vjp=vjp)


def test_a_wrong_block_of_params_is_seen_by_differences_alone(backend: Backend) -> None:
    """A factor on one leaf leaves jvp and vjp adjoint, since the jvp is in the state."""
    dynamics, *point = _first(GALLERY[0].build(backend))
    broken = _with_pullback(
        dynamics, lambda params, state: ({**params, "b": 1.01 * params["b"]}, state)
    )
    assert check_adjointness(broken, *point).holds
    assert check_linearity(broken, *point).holds
    finding = check_truth(broken, *point)
    assert finding.verdict == "broken"
    assert "params/b" in finding.evidence


def test_a_jvp_off_by_a_percent_is_not_adjoint(backend: Backend) -> None:
    dynamics, *point = _first(GALLERY[0].build(backend))

    def jvp(*arguments: Any) -> Any:
        pushed, rate = dynamics.jvp(*arguments)
        return backend.combine((1.01, pushed)), rate

    assert check_adjointness(Changed(dynamics, jvp=jvp), *point).verdict == "broken"


def test_nan_is_broken_and_never_passes(backend: Backend) -> None:
    dynamics, *point = _first(GALLERY[0].build(backend))

    def jvp(*arguments: Any) -> Any:
        pushed, rate = dynamics.jvp(*arguments)
        return backend.combine((math.nan, pushed)), rate

    broken = Changed(dynamics, jvp=jvp)
    for check in (check_adjointness, check_linearity):
        assert check(broken, *point).verdict == "broken"
    trial = replace(GALLERY[0].build(backend), dynamics=broken)
    assert check_chain(trial, UORO()).verdict == "unverifiable"
    assert largest([0.0, math.nan, 1.0]) == math.inf


def test_a_pullback_that_is_not_linear_is_refused(backend: Backend) -> None:
    dynamics, *point = _first(GALLERY[0].build(backend))
    broken = _with_pullback(dynamics, lambda params, state: (backend.map(abs, params), state))
    assert check_linearity(broken, *point).verdict == "broken"


def test_a_forward_that_differs_from_vjp_is_refused(backend: Backend) -> None:
    dynamics, *point = _first(GALLERY[0].build(backend))

    def forward(*arguments: Any) -> Any:
        outcome = dynamics.forward(*arguments)
        return outcome._replace(loss=outcome.loss * 1.0001)

    assert check_outcomes_agree(Changed(dynamics, forward=forward), *point).verdict == "broken"


def _torch_trial(transition: Any) -> Trial:
    backend = load_backend("torch")
    trial = GALLERY[0].build(backend)
    inner = partial(_tanh, backend.xp)
    return replace(trial, dynamics=backend.dynamics(lambda *a: transition(inner, *a)))


def _tanh(xp: Any, params: Any, state: Any, inputs: Any) -> Any:
    state = xp.tanh(params["W"] @ state + params["B"] @ inputs["x"] + params["b"])
    return state, 0.5 * xp.sum((params["C"] @ state - inputs["y"]) ** 2)


def test_dropout_makes_a_model_unverifiable() -> None:
    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        state, loss = inner(params, torch.nn.functional.dropout(state, 0.5), inputs)
        return state, loss

    trial = _torch_trial(transition)
    torch.manual_seed(0)
    assert check_purity(*_first(trial)).verdict == "unverifiable"
    finding = check_determinism(trial, UORO())
    assert finding.verdict == "unverifiable"
    assert "randomness" in finding.evidence


def test_no_grad_inside_a_model_is_seen_by_differences() -> None:
    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        with torch.no_grad():
            state = 0.5 * state
        return inner(params, state, inputs)

    assert check_truth(*_first(_torch_trial(transition))).verdict == "broken"


def test_a_model_that_changes_its_state_in_place_is_refused() -> None:
    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        following, loss = inner(params, state.clone(), inputs)
        with torch.no_grad():
            state.mul_(0.9)
        return following, loss

    finding = check_purity(*_first(_torch_trial(transition)))
    assert finding.verdict == "broken"
    assert "state changed" in finding.evidence


# Samplers.


def test_the_signs_of_each_backend_are_fair_and_independent(backend: Backend) -> None:
    state = backend.from_host({"a": np.zeros(3), "b": np.zeros(())})
    for estimator in (UORO(), UORO(rank=2)):
        check_signs(drawn_signs(backend, estimator, state, steps=6, seeds=100)).require()


def _bad_samplers() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    shape = 512, 6, 4
    fair = generator.choice([-1.0, 1.0], shape)
    stay = generator.random(shape) < 0.9
    sticky = fair.copy()
    for t in range(1, 6):
        sticky[:, t] = np.where(stay[:, t], sticky[:, t - 1], fair[:, t])
    lagged = fair.copy()
    lagged[:, 2:] = lagged[:, :-2]
    return {
        "shared by all steps": np.broadcast_to(fair[:, :1], shape),
        "sticky": sticky,
        "repeats every second step": lagged,
        "one sign for all coordinates": np.broadcast_to(fair[..., :1], shape),
        "all plus": np.ones(shape),
        "zero or one": (fair + 1) / 2,
        "Gaussian of variance 2": generator.normal(size=shape) * 2**0.5,
        "uniform": generator.uniform(-1, 1, shape),
        "P(+1) = 0.55": np.where(generator.random(shape) < 0.55, 1.0, -1.0),
        "shared by all runs": np.broadcast_to(fair[:1], shape),
    }


@pytest.mark.parametrize("name", _bad_samplers())
def test_each_wrong_sampler_is_refused(name: str) -> None:
    assert check_signs(_bad_samplers()[name]).verdict == "broken"


def test_fair_signs_are_not_refused_in_a_thousand_trials() -> None:
    generator = np.random.default_rng(1)
    gaps = [
        check_signs(generator.choice([-1.0, 1.0], (32, 6, 4))).require().gap for _ in range(1000)
    ]
    assert max(gaps) < 4, "P(e >= 10^4) <= 10^-4 each"


def test_the_e_value_is_one_on_average() -> None:
    count = 12
    k = np.arange(count + 1)
    weights = np.array([math.comb(count, i) for i in k]) / 2.0**count
    assert float(weights @ np.exp(log_e_value(k, count))) == pytest.approx(1.0, rel=1e-12)
