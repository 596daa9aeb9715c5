"""Both kinds of truncation against closed forms, and where they turn wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import MODELS, build, entries, make_items, relative

from uoro import RTRL, Backend, RollingTruncated, Streams, TruncatedBPTT, load_backend, unroll
from uoro.errors import SettingError, StructureError
from uoro.estimator import Windowed
from uoro.estimators import Truncated, bptt
from uoro.models import InfluenceBalancing


def _stationary_gradient(estimator: Any, span: int = 1) -> float:
    """Gradient of influence balancing at θ = 0, once the state and the memory are stationary."""
    backend = load_backend("autograd")
    model = InfluenceBalancing(23, 13)
    dynamics: Any = backend.dynamics(partial(model.transition, backend.xp))
    if span > 1:
        dynamics = unroll(dynamics, span)
    params, state = backend.from_host({"theta": 0.0}), backend.from_host(np.zeros(23))
    item = backend.from_host(np.zeros(() if span == 1 else span))
    carry = estimator.init(dynamics, params, state, inputs=item)
    for _ in range(300 // span):
        carry, state, estimate = estimator.step(dynamics, params, carry, state, item, None)
    return float(estimate.gradient["theta"]) / span


def _closed_form(reach: int) -> float:
    """-(ds¹/dθ) through the last ``reach`` steps: the loss at s¹ = 0 has slope -1."""
    matrix = 0.5 * np.eye(23) + 0.5 * np.eye(23, k=1)
    column = np.r_[np.ones(10), -np.ones(13)]
    return -sum(float((np.linalg.matrix_power(matrix, k) @ column)[0]) for k in range(reach))


@pytest.mark.parametrize("window", [1, 2, 10, 43, pytest.param(40, marks=pytest.mark.thorough)])
def test_rolling_truncation_is_the_truncated_sum(window: int) -> None:
    got = _stationary_gradient(RollingTruncated(window))
    assert got == pytest.approx(_closed_form(window), rel=1e-12)


def test_rolling_truncation_of_influence_balancing_changes_sign_near_a_window_of_41() -> None:
    signs = {window: np.sign(_closed_form(window)) for window in (1, 10, 40, 42, 60)}
    assert signs == {1: -1, 10: -1, 40: -1, 42: 1, 60: 1}
    assert _closed_form(400) == pytest.approx(6.0)


@pytest.mark.parametrize("span", [1, 10, 100])
def test_chunked_truncation_is_the_mean_of_truncated_sums(span: int) -> None:
    got = _stationary_gradient(Truncated(), span)
    wanted = float(np.mean([_closed_form(reach) for reach in range(1, span + 1)]))
    assert got == pytest.approx(wanted, rel=1e-12)
    assert got < 0, "it points away from the target, whose gradient is +6"


@pytest.mark.parametrize("name", MODELS)
def test_a_window_longer_than_the_past_is_exact(backend: Backend, name: str) -> None:
    dynamics, params, state = build(backend, MODELS[name])
    items = entries(backend, make_items(4), 4)
    rolling, exact = RollingTruncated(6), RTRL()
    carries = [e.init(dynamics, params, state, inputs=items[0]) for e in (rolling, exact)]
    steps = [backend.compile(partial(e.step, dynamics)) for e in (rolling, exact)]
    for item in items:
        results = [s(params, m, state, item, None) for s, m in zip(steps, carries, strict=True)]
        carries = [result[0] for result in results]
        state = results[0][1]
        assert relative(backend, results[0][2].gradient, results[1][2].gradient) < 1e-12


def test_unrolled_dynamics_are_the_composition_of_steps(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["two leaves"])
    stack = backend.from_host(make_items(3))
    outcome = unroll(dynamics, 3).forward(params, state, stack)
    total, now = 0.0, state
    for item in entries(backend, make_items(3), 3):
        one = dynamics.forward(params, now, item)
        now, total = one.next_state, total + float(one.loss)
    assert float(outcome.loss) == pytest.approx(total, rel=1e-14)
    assert relative(backend, outcome.next_state, now) < 1e-14
    assert unroll(unroll(dynamics, 3), 2).span == 6


def test_aux_comes_back_step_by_step(backend: Backend) -> None:
    def transition(params: Any, state: Any, inputs: Any) -> Any:
        next_state = params * state + inputs
        return next_state, next_state.sum(), {"seen": 2.0 * next_state}

    dynamics = backend.dynamics(transition, has_aux=True)
    params, state = backend.from_host(np.array(0.5)), backend.from_host(np.zeros(2))
    _, estimate = bptt(dynamics, params, state, backend.from_host(np.ones((3, 2))))
    seen = backend.to_host(estimate.aux)["seen"]
    np.testing.assert_allclose(seen[:, 0], [2.0, 3.0, 3.5])


def test_truncated_bptt_is_truncation_of_unrolled_steps(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    window, whole = backend.from_host(make_items(3)), unroll(dynamics, 3)
    chunked = TruncatedBPTT(3)
    assert isinstance(chunked, Windowed)
    assert chunked.init(dynamics, params, state) == ()
    _, state_1, estimate_1 = chunked.step(dynamics, params, (), state, window, None)
    _, state_2, estimate_2 = Truncated().step(whole, params, (), state, window, None)
    assert _bits(backend, (state_1, estimate_1)) == _bits(backend, (state_2, estimate_2))
    states, windows = (backend.collect([tree, tree]) for tree in (state, window))
    _, _, both = Streams(chunked, 2).step(dynamics, params, (), states, windows, None)
    assert relative(backend, both.gradient, estimate_1.gradient) < 1e-13
    with pytest.raises(StructureError, match=r"leading axis of 3"):
        chunked.step(dynamics, params, (), state, backend.from_host(make_items(2)), None)


def _bits(backend: Backend, tree: Any) -> list[bytes]:
    numbers = [backend.to_host(leaf) for _, leaf in backend.named_leaves(tree)]
    return [np.asarray(number).tobytes() for number in numbers]


def test_bad_lengths_are_refused(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    for length in (0, -1, 1.5):
        with pytest.raises(SettingError, match="length: expected an integer >= 1"):
            unroll(dynamics, length)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(SettingError, match="window: expected an integer >= 1"):
            RollingTruncated(length)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(SettingError, match="span: expected an integer >= 1"):
            TruncatedBPTT(length)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(StructureError, match=r"leading axis of 4.*Stack 4 items"):
        unroll(dynamics, 4).forward(params, state, backend.from_host(make_items(3)))
    with pytest.raises(SettingError, match=r"expected an item of the stream.*Pass inputs=item"):
        RollingTruncated(2).init(dynamics, params, state)
