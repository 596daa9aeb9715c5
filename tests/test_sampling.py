"""Signs, means and variances of free runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from systems import Changed
from uoro_conformance import (
    GALLERY,
    check_by_sampling,
    check_mean,
    check_signs,
    drawn_signs,
    relative_variance,
)
from uoro_conformance.finding import Finding
from uoro_conformance.monte_carlo import Bet, Moments
from uoro_conformance.mutants.samplers import WRONG_SAMPLERS, fair
from uoro_conformance.mutants.wrong import WRONG
from uoro_conformance.signs import log_e_value

from uoro import UORO, Backend, JointUORO, load_backend


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
            # Four draws, again and again: two could look like a tie between coordinates.
            return backend.fold(key, number % 4)

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


def test_a_variance_that_the_pilot_missed_leaves_the_question_open() -> None:
    def sample(number: int) -> Any:
        generator = np.random.default_rng([1, number])
        spread = 0.1 if number == 0 else 1.0
        return 1.0 + spread * generator.normal(size=(500, 2))

    finding = check_mean(sample, [1.0, 1.0], ["a", "b"], delta=0.2)
    assert finding.verdict in ("unverifiable", "undecided")


def test_a_constant_is_judged_by_more_than_its_first_value() -> None:
    def sample(number: int) -> Any:
        return np.full((10, 1), 1.0 if number == 0 else 5.0)

    assert check_mean(sample, [1.0], ["a"], delta=0.25).verdict == "biased"
    assert check_mean(lambda number: np.ones((10, 1)), [1.0], ["a"], delta=0.25).holds
    assert check_mean(lambda number: 1.2 * np.ones((10, 1)), [1.0], ["a"], delta=0.25).gap > 0.19


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


@pytest.mark.parametrize("rank", [1, 2])
def test_free_runs_add_joint_pairs_up(rank: int) -> None:
    trial, joint = GALLERY[3].build(load_backend("torch")), JointUORO(rank)
    assert "'influence'" in check_by_sampling(trial, joint, batch=512).require().evidence


def test_rank_divides_the_relative_variance() -> None:
    trial = GALLERY[3].build(load_backend("torch"))
    one, error = relative_variance(trial, UORO(), count=4000)
    four, _ = relative_variance(trial, UORO(rank=4), count=4000)
    assert one / four == pytest.approx(4.0, rel=0.25)
    assert 0 < error < 0.2 * one
