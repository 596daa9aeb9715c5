"""UORO step by step against Algorithm 1 written out with dense matrices in plain NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import build, relative

from uoro import UORO, Backend
from uoro.errors import SettingError, StructureError
from uoro.estimators import Influence

N, EPSILON = 5, 1e-7


class DenseTanh:
    """s' = tanh(W s + x), loss ½‖s' - 1‖², with derivatives by hand."""

    def init(self, generator: np.random.Generator) -> tuple[Any, Any]:
        return {"W": generator.normal(size=(N, N)) * 0.4}, np.zeros(N)

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        next_state = xp.tanh(params["W"] @ state + inputs)
        return next_state, 0.5 * xp.sum((next_state - 1.0) ** 2)


def algorithm_1(
    w: Any, s: Any, tangent: Any, cotangent: Any, x: Any, nu: Any
) -> tuple[Any, Any, Any, Any]:
    """One step, with the Jacobians as full matrices; θ is W in row-major order."""
    new = np.tanh(w @ s + x)
    slope = 1 - new**2
    by_state = slope[:, None] * w
    by_params = np.einsum("i,ik,j->ikj", slope, np.eye(N), s).reshape(N, N * N)
    error = new - 1.0
    gradient = (error @ by_state @ tangent) * cotangent + error @ by_params
    pushed, pulled = by_state @ tangent, nu @ by_params
    norm = np.linalg.norm
    rho0 = np.sqrt(norm(cotangent) / (norm(pushed) + EPSILON)) + EPSILON
    rho1 = np.sqrt(norm(pulled) / (norm(nu) + EPSILON)) + EPSILON
    return new, rho0 * pushed + rho1 * nu, cotangent / rho0 + pulled / rho1, gradient


def test_every_number_is_that_of_algorithm_1(backend: Backend) -> None:
    dynamics, params, state = build(backend, DenseTanh())
    generator = np.random.default_rng(7)
    estimator = UORO()
    advance = backend.compile(partial(estimator.step, dynamics))
    carry = estimator.init(dynamics, params, state)
    w, s = backend.to_host(params)["W"], backend.to_host(state)
    tangent, cotangent = np.zeros(N), np.zeros(N * N)
    for step in range(30):
        x, nu = generator.normal(size=N), generator.choice([-1.0, 1.0], N)
        carry, state, estimate = advance(
            params, carry, state, backend.from_host(x), backend.from_host(nu)
        )
        s, tangent, cotangent, gradient = algorithm_1(w, s, tangent, cotangent, x, nu)
        for got, wanted in (
            (state, s),
            (carry.tangent, tangent),
            (carry.cotangent["W"], cotangent.reshape(N, N)),
            (estimate.gradient["W"], gradient.reshape(N, N)),
        ):
            gap = relative(backend, got, backend.from_host(wanted))
            assert gap < 1e-11, f"step {step}: relative gap {gap}"


def test_rank_k_averages_k_independent_pairs(backend: Backend) -> None:
    dynamics, params, state = build(backend, DenseTanh())
    generator = np.random.default_rng(3)
    joint, single = UORO(rank=3), UORO()
    joint_step = backend.compile(partial(joint.step, dynamics))
    single_step = backend.compile(partial(single.step, dynamics))
    carry = joint.init(dynamics, params, state)
    pairs = [single.init(dynamics, params, state) for _ in range(3)]
    for _ in range(5):
        x = backend.from_host(generator.normal(size=N))
        nu = generator.choice([-1.0, 1.0], (3, N))
        carry, after, estimate = joint_step(params, carry, state, x, backend.from_host(nu))
        total = backend.zeros(params)
        for i, signs in enumerate(nu):
            pairs[i], _, one = single_step(params, pairs[i], state, x, backend.from_host(signs))
            total = backend.combine((1.0, total), (1.0 / 3, one.gradient))
        state = after
        assert relative(backend, estimate.gradient, total) < 1e-13


def test_flipping_the_signs_flips_the_pair_and_not_the_gradient(backend: Backend) -> None:
    dynamics, params, state = build(backend, DenseTanh())
    generator = np.random.default_rng(5)
    pair = generator.normal(size=N), {"W": generator.normal(size=(N, N))}
    carry = Influence(*(backend.from_host(part) for part in pair))
    x = backend.from_host(generator.normal(size=N))
    nu = backend.from_host(generator.choice([-1.0, 1.0], N))
    step = UORO().step
    one, _, first = step(dynamics, params, carry, state, x, nu)
    minus = backend.combine((-1.0, carry.tangent)), backend.combine((-1.0, carry.cotangent))
    two, _, second = step(
        dynamics, params, Influence(*minus), state, x, backend.combine((-1.0, nu))
    )
    np.testing.assert_array_equal(backend.to_host(one.tangent), -backend.to_host(two.tangent))
    np.testing.assert_array_equal(
        backend.to_host(one.cotangent["W"]), -backend.to_host(two.cotangent["W"])
    )
    np.testing.assert_array_equal(
        backend.to_host(first.gradient["W"]), backend.to_host(second.gradient["W"])
    )


def test_a_step_is_a_function_of_its_arguments_and_changes_none(backend: Backend) -> None:
    dynamics, params, state = build(backend, DenseTanh())
    x, nu = backend.from_host(np.ones(N)), backend.from_host(np.ones(N))
    carry = UORO().init(dynamics, params, state)
    carry, state, _ = UORO().step(dynamics, params, carry, state, x, nu)
    before = [np.array(backend.to_host(t)) for t in (params["W"], carry.tangent, state)]
    one = UORO().step(dynamics, params, carry, state, x, nu)
    two = UORO().step(dynamics, params, carry, state, x, nu)
    after = [np.array(backend.to_host(t)) for t in (params["W"], carry.tangent, state)]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in (
        (one[0].tangent, two[0].tangent),
        (one[0].cotangent["W"], two[0].cotangent["W"]),
        (one[2].gradient["W"], two[2].gradient["W"]),
    ):
        np.testing.assert_array_equal(backend.to_host(a), backend.to_host(b))


def test_signs_of_the_wrong_shape_name_the_leaf_and_both_shapes(backend: Backend) -> None:
    dynamics, params, state = build(backend, DenseTanh())
    carry = UORO().init(dynamics, params, state)
    x = backend.from_host(np.ones(N))
    with pytest.raises(
        StructureError, match=r"signs.*expected shape \(5,\), got \(4,\).*one sign per"
    ):
        UORO().step(dynamics, params, carry, state, x, backend.from_host(np.ones(4)))
    with pytest.raises(StructureError, match=r"expected shape \(2, 5\), got \(5,\)"):
        UORO(rank=2).step(dynamics, params, carry, state, x, backend.from_host(np.ones(5)))


@pytest.mark.parametrize(
    "settings", [{"rank": 0}, {"rank": 1.5}, {"distribution": "uniform"}, {"epsilon": 0.0}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        UORO(**settings)
