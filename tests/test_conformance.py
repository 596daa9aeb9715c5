"""The checks themselves: right things pass, and each wrong thing is refused by the check for it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from uoro_conformance import (
    GALLERY,
    System,
    Trial,
    check_adjointness,
    check_by_sampling,
    check_chain,
    check_declaration,
    check_determinism,
    check_gradient_path,
    check_linearity,
    check_mean,
    check_outcomes_agree,
    check_parity,
    check_purity,
    check_signs,
    check_truth,
    check_unbiased,
    drawn_signs,
    relative_variance,
)
from uoro_conformance.designs import hadamard_designs
from uoro_conformance.finding import Finding, Verdict, largest, worst
from uoro_conformance.monte_carlo import Bet, Moments
from uoro_conformance.primitives import PRIMITIVES, check_gaussian
from uoro_conformance.right import RIGHT
from uoro_conformance.samplers import WRONG_SAMPLERS, fair
from uoro_conformance.self_test import (
    BIAS,
    check_right_are_not_biased,
    check_wrong_are_refused,
    refuse,
)
from uoro_conformance.signs import log_e_value
from uoro_conformance.suite import guarded, influence_balancing
from uoro_conformance.systems import systems
from uoro_conformance.variants import Variant
from uoro_conformance.wrong import WRONG, Differenced, Mutant

from uoro import RTRL, UORO, Backend, Truncated, load_backend


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


# What is declared.


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

    estimand: Any

    def init(self, *arguments: Any, inputs: Any = None) -> tuple[()]:
        return ()

    def draw(self, sampler: Any, state: Any) -> None:
        return None

    def step(self, *arguments: Any) -> Any:
        return Truncated().step(*arguments)


@pytest.mark.parametrize("estimand", ["exact", "unbiased"])
def test_truncation_that_declares_itself_otherwise_is_refused(estimand: str) -> None:
    trial = influence_balancing(load_backend("autograd"), steps=60).unrolled(10)
    assert check_declaration(trial, Boasting(estimand)).verdict == "biased"


def test_rtrl_is_exact_and_uoro_unbiased_as_they_declare(backend: Backend) -> None:
    trial = GALLERY[0].build(backend)
    for estimator in (RTRL(), UORO(), UORO(rank=2), UORO(law="gaussian")):
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
            assert check_adjointness(*_first(trial)).verdict == "broken"


def test_a_custom_vjp_that_is_off_by_a_percent_is_seen_by_differences() -> None:
    @jax.custom_vjp
    def squash(x: Any) -> Any:
        return jnp.tanh(x)

    squash.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (1.01 * g * (1 - jnp.tanh(x) ** 2),))
    backend = load_backend("jax")
    with backend.precision("float64"):
        trial = GALLERY[0].build(backend)

        def transition(params: Any, state: Any, inputs: Any) -> Any:
            pre = params["W"] @ state + params["B"] @ inputs["x"] + params["b"]
            state = squash(pre)
            return state, 0.5 * jnp.sum((params["C"] @ state - inputs["y"]) ** 2)

        trial = replace(trial, dynamics=backend.dynamics(transition))
        finding = check_truth(*_first(trial))
        assert finding.verdict == "broken"
        assert "off by 1.0" in finding.evidence


def test_an_autograd_function_that_is_off_by_a_percent_is_seen_by_differences() -> None:
    class Squash(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = torch.tanh(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (y,) = ctx.saved_tensors
            return 1.01 * g * (1 - y**2)

    apply: Any = Squash.apply

    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        state = apply(params["W"] @ state + params["B"] @ inputs["x"] + params["b"])
        return state, 0.5 * torch.sum((params["C"] @ state - inputs["y"]) ** 2)

    finding = check_truth(*_first(_torch_trial(transition)))
    assert finding.verdict == "broken"
    assert "off by 1.0" in finding.evidence


# Sampling.


def test_the_signs_of_each_backend_are_fair_and_independent(backend: Backend) -> None:
    trial = GALLERY[0].build(backend)
    check_signs(drawn_signs(trial, UORO(rank=2), steps=256)).require()


@pytest.mark.parametrize("name", WRONG_SAMPLERS)
def test_each_wrong_sampler_is_refused(name: str) -> None:
    draws = WRONG_SAMPLERS[name](np.random.default_rng(0), (512, 6, 4))
    assert check_signs(draws).verdict == "broken"


def test_an_estimator_that_reuses_its_signs_is_caught_in_a_free_run() -> None:
    """The noise is taken from where the learner used it, so a wrong key shows."""
    backend = load_backend("autograd")

    class Forgetful:
        def __getattr__(self, name: str) -> Any:
            return getattr(backend, name)

        def fold(self, key: Any, number: int) -> Any:
            return backend.fold(key, number % 2)

    trial = GALLERY[0].build(backend)
    trial = replace(trial, dynamics=Changed(trial.dynamics, backend=Forgetful()))
    finding = check_signs(drawn_signs(trial, UORO(), steps=128))
    assert finding.verdict == "broken"
    assert "lag" in finding.evidence


def test_fair_signs_are_not_refused_in_a_thousand_trials() -> None:
    generator = np.random.default_rng(1)
    gaps = [check_signs(fair(generator, (32, 6, 4))).require().gap for _ in range(1000)]
    assert max(gaps) < 4, "P(e >= 10^4) <= 10^-4 each"


def test_the_e_value_is_one_on_average() -> None:
    count = 12
    k = np.arange(count + 1)
    weights = np.array([math.comb(count, i) for i in k]) / 2.0**count
    assert float(weights @ np.exp(log_e_value(k, count))) == pytest.approx(1.0, rel=1e-12)


def test_a_sampling_test_finds_a_bias_excludes_one_or_says_that_it_cannot() -> None:
    def draws(bias: float, spread: float) -> Any:
        def sample(number: int) -> Any:
            generator = np.random.default_rng([7, number])
            # Heavy tails: Student's t with 5 degrees of freedom, of variance 5/3.
            return 1.0 + bias + spread * generator.standard_t(5, size=(500, 3))

        return sample

    def verdict(bias: float, spread: float) -> Finding:
        return check_mean(draws(bias, spread), [1.0] * 3, list("abc"), delta=0.2, most=20_000)

    assert verdict(0.0, 1.0).verdict == "holds"
    assert verdict(0.3, 1.0).verdict == "biased"
    undecided = verdict(0.0, 20.0)
    assert undecided.verdict == "undecided"
    assert undecided.resolves > 0.2
    assert "draws would decide" in undecided.evidence


def test_the_number_of_draws_a_sampling_test_needs_is_as_published() -> None:
    """N = 152 σ²/δ² at α = 1e-9, power 99.9 %, ten functionals."""
    bet = Bet(np.ones(10), delta=0.1, alpha=1e-9)
    assert bet.needed == pytest.approx(152 / 0.1**2, rel=0.1)


def test_the_sampling_e_process_stays_below_one_on_average() -> None:
    """Under the null, with the variance at the bound, and at every time one may stop."""
    generator, runs = np.random.default_rng(3), 4000
    bet = Bet(np.ones(runs), delta=0.5, alpha=1e-3)
    moments = Moments(0, np.zeros(runs), np.zeros(runs))
    for _ in range(40):
        # Rare large values and many small ones: variance 1, kurtosis 25.
        rare = generator.random((10, runs)) < 0.04
        moments = moments.add(np.where(rare, 5.0, 0.0) * generator.choice([-1, 1], (10, runs)))
        e = np.exp(bet.log_e(moments))
        assert e.mean() < 1 + 4 * e.std() / math.sqrt(runs)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_free_runs_tell_right_from_wrong_without_choosing_the_noise(name: str) -> None:
    backend = load_backend(name)
    with backend.precision("float64"):
        trial = GALLERY[3].build(backend)
        check_by_sampling(trial, UORO(), delta=0.25).require()
        for mutant in WRONG:
            if mutant.estimator.name in ("jvp omitted", "pair cut every 2 steps"):
                assert check_by_sampling(trial, mutant.estimator).verdict == "biased"


def test_rank_divides_the_relative_variance() -> None:
    trial = GALLERY[3].build(load_backend("torch"))
    one, error = relative_variance(trial, UORO(), count=4000)
    four, _ = relative_variance(trial, UORO(rank=4), count=4000)
    assert one / four == pytest.approx(4.0, rel=0.25)
    assert 0 < error < 0.2 * one


# The laws of a backend.


def _broken_backend(backend: Backend, **methods: Any) -> Any:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            return methods.get(name) or getattr(backend, name)

    return Broken()


def _breakages(backend: Backend) -> dict[str, dict[str, Any]]:
    def plain_norm(x: Any) -> Any:
        leaves: list[Any] = [leaf for _, leaf in backend.named_leaves(x)]
        return sum((leaf**2).sum() for leaf in leaves) ** 0.5

    def scan(body: Any, carry: Any, items: Any, *, reverse: bool = False) -> Any:
        return backend.scan(body, carry, items)

    def random(key: Any, like: Any, law: Any, batch: Any = (), stacked: int = 0) -> Any:
        return backend.random(backend.key(0), like, law, batch, stacked)

    return {
        "trees": {"map": lambda f, tree, *others: dict(backend.map(f, tree, *others), list=())},
        "algebra": {"inner": lambda x, y: backend.inner(x, y) * 1.001},
        "norm": {"norm": plain_norm},
        "loops": {"scan": scan},
        "border": {"from_host": lambda tree, dtype=None: backend.from_host(tree, dtype="float32")},
        "draws": {"random": random},
    }


@pytest.mark.parametrize("law", ["trees", "algebra", "norm", "loops", "border", "draws"])
def test_each_broken_primitive_is_refused(law: str) -> None:
    backend = load_backend("autograd")
    check = dict(PRIMITIVES)[law]
    check(backend, "float64").require()
    finding = guarded(
        partial(check, _broken_backend(backend, **_breakages(backend)[law]), "float64"), law
    )
    assert finding.verdict == "broken", finding


def test_gaussian_noise_of_another_variance_is_refused() -> None:
    backend = load_backend("autograd")

    def random(*arguments: Any) -> Any:
        return backend.map(lambda leaf: 1.2 * leaf, backend.random(*arguments))

    check_gaussian(backend, "float64").require()
    assert check_gaussian(_broken_backend(backend, random=random), "float64").verdict == "broken"
