"""Parallel streams: each its own state and pair, and one gradient for the shared params."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import MODELS, build, entries, jiggle, make_items, relative

from uoro import (
    RTRL,
    SGD,
    UORO,
    Backend,
    Estimator,
    JointUORO,
    Learner,
    RollingTruncated,
    Streams,
    load_backend,
)
from uoro.errors import SettingError, StructureError

COUNT = 3


def _states(backend: Backend, state: Any) -> list[Any]:
    host = backend.to_host(state)
    return [backend.from_host(jiggle(host, np.random.default_rng(i))) for i in range(COUNT)]


@pytest.mark.parametrize(
    "estimator",
    [UORO(), UORO(rank=2), JointUORO(1), JointUORO(2), RTRL(), RollingTruncated(2)],
)
def test_streams_equal_separate_runs_averaged(backend: Backend, estimator: Estimator) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    states = _states(backend, state)
    together = Streams(estimator, COUNT)
    item = entries(backend, make_items(1), 1)[0]
    stacked_item = backend.collect([item] * COUNT)
    stack = backend.collect(states)
    carry = together.init(dynamics, params, stack, inputs=stacked_item)
    carries = [estimator.init(dynamics, params, s, inputs=item) for s in states]
    joint_step = backend.compile(partial(together.step, dynamics))
    each_step = backend.compile(partial(estimator.step, dynamics))
    for step in range(3):
        items = entries(backend, make_items(COUNT, seed=step), COUNT)
        sampler = partial(backend.random, backend.fold(backend.key(0), step))
        signs = together.draw(sampler, stack)
        both = backend.collect(items)
        ones = backend.from_host(np.ones(COUNT) / COUNT)
        late = together.gradient(dynamics, params, carry, stack, both, ones)
        carry, stack, estimate = joint_step(params, carry, stack, both, signs)
        assert relative(backend, late, estimate.gradient) < 1e-13
        total, losses = backend.zeros(params), []
        for i in range(COUNT):
            mine = None if signs is None else backend.map(lambda leaf, i=i: leaf[i], signs)
            carries[i], states[i], one = each_step(params, carries[i], states[i], items[i], mine)
            total = backend.combine((1.0, total), (1.0 / COUNT, one.gradient))
            losses.append(float(one.loss))
        assert relative(backend, estimate.gradient, total) < 1e-13
        assert relative(backend, stack, backend.collect(states)) < 1e-13
        assert float(estimate.loss) == pytest.approx(np.mean(losses), rel=1e-13)


@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), JointUORO(2)], ids=str)
def test_a_late_gradient_of_streams_runs_each_once(estimator: Any) -> None:
    backend, calls = load_backend("autograd"), list[None]()
    xp = backend.xp

    def transition(params: Any, state: Any, item: Any) -> Any:
        calls.append(None)
        state = xp.tanh(params @ state + item)
        return state, xp.sum(state**2)

    dynamics, streams = backend.dynamics(transition, check=False), Streams(estimator, COUNT)
    params, state = np.eye(2), np.ones((COUNT, 2))
    carry = streams.init(dynamics, params, state)
    calls.clear()
    streams.gradient(dynamics, params, carry, state, np.ones(COUNT), np.ones(COUNT))
    assert len(calls) == COUNT


class _Doubled(UORO):
    """A subclass with a gradient of its own."""

    def gradient(self, *arguments: Any) -> Any:
        return 2.0 * super().gradient(*arguments)


def test_a_gradient_of_its_own_is_asked_for_with_streams_too() -> None:
    backend = load_backend("autograd")
    xp = backend.xp
    dynamics = backend.dynamics(lambda p, s, x: (xp.tanh(p @ s + x), xp.sum(p @ s)), check=False)
    params, state = np.eye(2), np.ones((COUNT, 2))
    found = []
    for estimator in (UORO(), _Doubled()):
        streams = Streams(estimator, COUNT)
        carry = streams.init(dynamics, params, state)
        given = carry, state, np.ones(COUNT), np.ones(COUNT)
        found.append(streams.gradient(dynamics, params, *given))
    np.testing.assert_allclose(found[1], 2.0 * found[0])


def test_each_stream_draws_its_own_signs(backend: Backend) -> None:
    state = backend.from_host(np.zeros((COUNT, 40)))
    sampler = partial(backend.random, backend.key(0))
    signs = backend.to_host(Streams(UORO(), COUNT).draw(sampler, state))
    assert signs.shape == (COUNT, 40)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert not np.array_equal(signs[0], signs[1])
    ranked = backend.to_host(Streams(UORO(rank=2), COUNT).draw(sampler, state))
    assert ranked.shape == (COUNT, 2, 40)


def test_resetting_one_stream_zeroes_its_pair_and_leaves_the_others(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    stack = backend.collect(_states(backend, state))
    learner = Learner(dynamics, Streams(UORO(), COUNT), SGD(0.01), params, stack)
    items = {name: leaf.reshape(5, COUNT) for name, leaf in make_items(5 * COUNT).items()}
    learner.run([{name: leaf[i] for name, leaf in items.items()} for i in range(5)])
    before = [np.array(a) for _, a in backend.named_leaves(backend.to_host(learner.carry))]
    fresh = backend.zeros(stack)
    learner.reset(np.array([False, True, False]), fresh)
    after = [np.array(a) for _, a in backend.named_leaves(backend.to_host(learner.carry))]
    states = backend.to_host(learner.state)["0"]["h"]
    assert np.all(states[1] == 0)
    assert np.all(states[0] != 0)
    assert sum(bool(np.any(old[1] != 0)) for old in before) == len(before) - 2  # not the readout
    for old, new in zip(before, after, strict=True):
        assert np.all(new[1] == 0)
        np.testing.assert_array_equal(old[[0, 2]], new[[0, 2]])


def test_reset_of_a_single_stream_says_how_to_have_several(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    with pytest.raises(SettingError, match=r"single stream. Wrap it: Streams\(estimator, count\)"):
        Learner(dynamics, UORO(), SGD(0.1), params, state).reset(np.array([True]), state)
    with pytest.raises(SettingError, match="count=0"):
        Streams(UORO(), 0)


def test_a_stack_of_another_count_is_refused(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    three = backend.collect(_states(backend, state))
    with pytest.raises(StructureError, match=r"count=4\).init\(state\).*leading axis of 4"):
        Streams(UORO(), 4).init(dynamics, params, three)
    learner = Learner(dynamics, Streams(UORO(), COUNT), SGD(0.1), params, three)
    pair = {name: leaf[:2] for name, leaf in make_items(3).items()}
    with pytest.raises(StructureError, match=r"init\(inputs\).*'symbol': .*, got shape \(2,\)"):
        learner.step(pair)
    learner.step(make_items(3))
    with pytest.raises(StructureError, match=r"step\(inputs\).*'symbol': .*, got shape \(2,\)"):
        learner.step(pair)
    with pytest.raises(StructureError, match=r"reset\(mask=.*: the array: .*, got shape \(2,\)"):
        learner.reset(np.array([True, False]), three)


def test_a_reset_before_the_first_step_touches_only_the_streams_it_names(
    backend: Backend,
) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    three = backend.collect(_states(backend, state))
    learner = Learner(dynamics, Streams(RollingTruncated(2), COUNT), SGD(0.1), params, three)
    learner.reset(np.array([False, True, False]), backend.zeros(three))
    before, after = (backend.to_host(tree)["0"]["h"] for tree in (three, learner.state))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.all(after[1] == 0)
