"""Derivatives that are infinite at a first state of zero, where backpropagation is finite."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

from uoro import (
    RTRL,
    UORO,
    JointUORO,
    KroneckerSum,
    RollingTruncated,
    SnAp,
    Streams,
    load_backend,
    unroll,
)
from uoro.backend import Backend
from uoro.derivatives.sweep import read, sweep

ITEMS = (0.5, 0.25, 0.75, 0.5)
PARAMS = {"carried": 0.7, "length": -0.3}

ESTIMATORS: dict[str, tuple[Any, int, tuple[int, ...]]] = {
    "rtrl": (RTRL(), 1, ()),
    "joint:1": (JointUORO(1), 1, ()),
    "joint:2": (JointUORO(2), 1, ()),
    "pairs": (UORO(16), 1, (16,)),
    "streams": (Streams(UORO(), 16), 1, (16,)),
    "streams of two pairs": (Streams(UORO(2), 16), 1, (16, 2)),
    "memory of two": (Streams(UORO(), 4), 2, (4,)),
}
"""Estimators, the span of a step, and the stack of signs; the first axis runs over all of them."""


def _transition(xp: Any, params: Any, state: Any, item: Any) -> Any:
    """Return the next state and a loss of the old one, both with a square root at zero."""
    length = xp.sqrt(xp.sum(state**2))
    following = xp.tanh(params["carried"] * state + params["length"] * length + item)
    return following, xp.sum((following - 0.1) ** 2) + params["length"] * length


def _total(params: dict[str, float]) -> float:
    state, total = np.zeros(1), 0.0
    for item in ITEMS:
        state, loss = _transition(np, params, state, item)
        total += float(loss)
    return total


def _differences(step: float = 1e-5) -> dict[str, float]:
    return {
        name: (_total({**PARAMS, name: value + step}) - _total({**PARAMS, name: value - step}))
        / (2 * step)
        for name, value in PARAMS.items()
    }


def _signs(count: int, stacked: tuple[int, ...]) -> list[np.ndarray]:
    """Return the signs of each step: every sequence is one entry of the stack."""
    every = np.array(list(product((1.0, -1.0), repeat=count))).T
    shape = stacked[:1] + (1,) * len(stacked)
    return [np.broadcast_to(row.reshape(shape), (*stacked, 1)) for row in every]


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_mean_over_all_signs_is_the_gradient_of_the_loss(name: str, estimator: str) -> None:
    backend: Backend = load_backend(name)
    chosen, span, stacked = ESTIMATORS[estimator]
    rows = (chosen.count,) if isinstance(chosen, Streams) else ()
    with backend.precision("float64"), np.errstate(all="ignore"):
        model: Any = backend.dynamics(partial(_transition, backend.xp))
        dynamics = model if span == 1 else unroll(model, span)
        params = backend.from_host({key: np.array(value) for key, value in PARAMS.items()})
        state = backend.from_host(np.zeros((*rows, 1)))
        carry = chosen.init(dynamics, params, state)
        gradient = dict.fromkeys(PARAMS, 0.0)
        for step in range(len(ITEMS) // span):
            window = np.array(ITEMS[step * span : (step + 1) * span])
            shape = () if span == 1 else (span,)
            item = backend.from_host(np.broadcast_to(window.reshape(shape), (*rows, *shape)))
            signs = chosen.draw(partial(backend.random, backend.key(step)), state)
            if stacked:
                signs = backend.from_host(_signs(len(ITEMS) // span, stacked)[step])
            carry, state, estimate = chosen.step(dynamics, params, carry, state, item, signs)
            for key, part in backend.to_host(estimate.gradient).items():
                gradient[key] += float(part)
    for key, expected in _differences().items():
        assert gradient[key] == pytest.approx(expected, rel=1e-6), key


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
def test_one_pair_of_two_is_zero(name: str) -> None:
    """Each pair is looked at by itself."""
    backend: Backend = load_backend(name)
    with backend.precision("float64"):
        dynamics = backend.dynamics(lambda theta, s, x: (theta * s + x, backend.xp.sum(s) * theta))
        tangent = backend.from_host(np.array([[0.0, 0.0], [0.0, 1e-200]]))
        params, state = backend.from_host((np.array(2.0), np.ones(2)))
        model = sweep(dynamics, params, state, 0.5, tangent, tangent, backend.vmap)
        np.testing.assert_array_equal(
            backend.to_host(model.pushed), 2 * np.array([[0.0, 0.0], [0.0, 1e-200]])
        )
        _, weights = read(backend, model, tangent, 1.0, stacked=True)
        np.testing.assert_array_equal(backend.to_host(weights), [0.0, 2e-200])


def _normed(xp: Any, *, finite: bool) -> Any:
    """Return a transition with a norm of the old state, whose derivative at zero may be finite."""

    def transition(params: Any, state: Any, item: Any) -> Any:
        squares = xp.sum(state**2)
        length = xp.sqrt(xp.where(squares > 0, squares, 1.0) if finite else squares)
        length = xp.where(squares > 0, length, 0.0) if finite else length
        following = xp.tanh(params["w"] @ state + params["u"] * (item - length))
        return following, xp.sum((following - 0.1) ** 2) + length

    return transition


def _total_gradient(backend: Any, estimator: Any, *, finite: bool) -> dict[str, Any]:
    dynamics = backend.dynamics(_normed(backend.xp, finite=finite))
    draw = np.random.RandomState(0).randn
    params = backend.from_host({"w": draw(3, 3), "u": draw(3)})
    state, carry, total = backend.from_host(np.zeros(3)), None, dict[str, Any]()
    for step, number in enumerate(ITEMS):
        item = backend.from_host(np.array(number))
        if carry is None:
            carry = estimator.init(dynamics, params, state, inputs=item)
        sampler = partial(backend.random, backend.fold(backend.key(0), step))
        signs = estimator.draw(sampler, state)
        carry, state, estimate = estimator.step(dynamics, params, carry, state, item, signs)
        for key, part in backend.to_host(estimate.gradient).items():
            total[key] = total.get(key, 0.0) + part
    return total


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
@pytest.mark.parametrize(
    "estimator", [KroneckerSum(2), RollingTruncated(3), SnAp(1), UORO(rank=2)], ids=str
)
def test_estimates_are_those_of_the_model_with_a_finite_derivative(
    name: str, estimator: Any
) -> None:
    """The oracle differs in that derivative alone, and runs with the same signs."""
    backend: Any = load_backend(name)
    with backend.precision("float64"), np.errstate(all="ignore"):
        got, expected = (
            _total_gradient(backend, estimator, finite=finite) for finite in (False, True)
        )
    for key, part in expected.items():
        np.testing.assert_allclose(got[key], part, rtol=1e-10, atol=1e-12, err_msg=key)
