"""RTRL against full BPTT, and both against derivatives that no autodiff has touched."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import MODELS, build, entries, make_items, relative
from uoro_conformance import check_adjointness, check_outcomes_agree, check_rtrl_sums_to_bptt

from uoro import RTRL, Backend
from uoro.estimators import bptt
from uoro.models import Model

STEPS = 6


@pytest.mark.parametrize("name", MODELS)
def test_rtrl_summed_over_time_equals_full_bptt(backend: Backend, name: str) -> None:
    dynamics, params, state = build(backend, MODELS[name])
    check_rtrl_sums_to_bptt(
        dynamics, params, state, entries(backend, make_items(STEPS), STEPS)
    ).require()


def _total_loss(model: Model, params: Any, state: Any, items: Any) -> complex:
    total = 0.0
    for i in range(STEPS):
        item = {name: column[i] for name, column in items.items()}
        state, loss = model.transition(np, params, state, item)
        total = total + loss
    return total


def _complex_step(model: Model, params: Any, state: Any, items: Any) -> Any:
    """Differentiate in plain complex NumPy: f(θ + ih) = f + ih f' + O(h²), with h = 1e-30."""
    complex_params = _map(lambda leaf: np.asarray(leaf, complex), params)
    complex_state = _map(lambda leaf: np.asarray(leaf, complex), state)

    def derivative(leaf: Any) -> Any:
        result = np.zeros(leaf.shape)
        for index in np.ndindex(leaf.shape):
            leaf[index] += 1e-30j
            result[index] = _total_loss(model, complex_params, complex_state, items).imag / 1e-30
            leaf[index] -= 1e-30j
        return result

    return _map(derivative, complex_params)


def _map(function: Any, tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _map(function, part) for name, part in tree.items()}
    return function(tree)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_equals_complex_step(backend: Backend, name: str) -> None:
    model = MODELS[name]
    dynamics, params, state = build(backend, model)
    items = make_items(STEPS)
    _, estimate = backend.compile(partial(bptt, dynamics))(params, state, backend.from_host(items))
    oracle = _complex_step(model, backend.to_host(params), backend.to_host(state), items)
    gap = relative(backend, estimate.gradient, backend.from_host(oracle))
    assert gap < 1e-12, f"{name}: relative gap {gap}"


def test_influence_of_the_linear_system_has_its_closed_form(backend: Backend) -> None:
    """For s' = A s + θ c, ∂s_t/∂θ is the sum of A^k c over k < t."""
    dynamics, params, state = build(backend, MODELS["linear"])
    estimator = RTRL()
    carry = estimator.init(dynamics, params, state)
    for _ in range(5):
        carry, state, _ = estimator.step(
            dynamics, params, carry, state, backend.from_host(np.zeros(())), None
        )
    matrix = 0.5 * np.eye(4) + 0.5 * np.eye(4, k=1)
    column = np.array([1.0, 1.0, -1.0, -1.0])
    wanted = sum(np.linalg.matrix_power(matrix, k) @ column for k in range(5))
    np.testing.assert_allclose(backend.to_host(carry)["theta"], wanted, rtol=1e-14)


@pytest.mark.parametrize("name", MODELS)
def test_jvp_and_vjp_are_adjoint_and_agree_on_the_outcome(backend: Backend, name: str) -> None:
    dynamics, params, state = build(backend, MODELS[name])
    item = entries(backend, make_items(1), 1)[0]
    check_adjointness(dynamics, params, state, item).require()
    check_outcomes_agree(dynamics, params, state, item).require()


class Flipped:
    """Dynamics with one sign wrong: the pullback returns minus the params' cotangent."""

    span = 1

    def __init__(self, dynamics: Any, *, params_sign: float, state_sign: float) -> None:
        self.dynamics, self.backend = dynamics, dynamics.backend
        self.signs = params_sign, state_sign
        self.forward, self.jvp = dynamics.forward, dynamics.jvp

    def vjp(self, params: Any, state: Any, inputs: Any) -> Any:
        outcome, pullback = self.dynamics.vjp(params, state, inputs)

        def flipped(*cotangents: Any) -> Any:
            pulled = pullback(*cotangents)
            return tuple(
                self.backend.combine((sign, part))
                for sign, part in zip(self.signs, pulled, strict=True)
            )

        return outcome, flipped


def test_a_flipped_pullback_of_the_state_is_rejected(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    item = entries(backend, make_items(1), 1)[0]
    broken = Flipped(dynamics, params_sign=1.0, state_sign=-1.0)
    assert not check_adjointness(broken, params, state, item).holds


def test_a_pullback_that_halves_the_way_of_the_loss_is_rejected(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    items = entries(backend, make_items(STEPS), STEPS)

    class Forgetful(Flipped):
        """Dynamics whose loss reaches the state with half its derivative."""

        def vjp(self, params: Any, state: Any, inputs: Any) -> Any:
            outcome, pullback = self.dynamics.vjp(params, state, inputs)

            def forgetful(state_cotangent: Any, loss_cotangent: Any) -> Any:
                pulled, further = pullback(state_cotangent, loss_cotangent)
                kept = 0.5 if loss_cotangent is not None else 1.0
                return pulled, self.backend.combine((kept, further))

            return outcome, forgetful

    broken = Forgetful(dynamics, params_sign=1.0, state_sign=1.0)
    assert not check_rtrl_sums_to_bptt(broken, params, state, items).holds
