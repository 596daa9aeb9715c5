"""The loop: step and run, streams that end, losses that explode, optimizers of the user's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import islice, repeat
from typing import Any

import numpy as np
import pytest
from systems import MODELS, build, make_items

from uoro import (
    RTRL,
    SGD,
    UORO,
    Adam,
    Backend,
    Estimator,
    Learner,
    RollingTruncated,
    Streams,
    TruncatedBPTT,
    load_backend,
    unroll,
)
from uoro.errors import NonFiniteError, SettingError, StreamError
from uoro.estimators import Truncated
from uoro.learning import Metrics
from uoro.learning.host_noise import SharedNoise
from uoro.learning.windows import Windows
from uoro.schedules import inverse_sqrt


def _items(count: int) -> list[Any]:
    stack = make_items(count)
    return [{name: leaf[i] for name, leaf in stack.items()} for i in range(count)]


def _learner(backend: Backend, estimator: Estimator | None = None, **options: Any) -> Learner:
    dynamics, params, state = build(backend, MODELS["gru"])
    return Learner(dynamics, estimator or UORO(), Adam(1e-2), params, state, **options)


def _host(learner: Learner) -> list[Any]:
    backend = learner.backend
    trees = (learner.params, learner.state, learner.carry)
    return [np.array(a) for tree in trees for _, a in backend.named_leaves(backend.to_host(tree))]


@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), RollingTruncated(3)])
def test_step_and_run_give_the_same_numbers(backend: Backend, estimator: Estimator) -> None:
    stepped, ran = _learner(backend, estimator), _learner(backend, estimator)
    losses = [float(stepped.step(item).loss) for item in _items(23)]
    seen: list[Metrics] = []
    summary = ran.run(_items(23), chunk=10, report=seen.append)
    assert [m.first_step for m in seen] == [0, 10, 20]
    assert [len(m.losses) for m in seen] == [10, 10, 3]
    np.testing.assert_allclose([x for m in seen for x in m.losses], losses, rtol=1e-12)
    assert summary.steps == 23
    assert summary.mean_loss == pytest.approx(np.mean(losses), rel=1e-12)
    assert summary.last_loss == pytest.approx(losses[-1], rel=1e-12)
    for a, b in zip(_host(stepped), _host(ran), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_equal_seeds_give_equal_runs_and_others_do_not(backend: Backend) -> None:
    one, two, three = (_learner(backend, seed=seed) for seed in (1, 1, 2))
    for learner in (one, two, three):
        learner.run(_items(8))
    for a, b in zip(_host(one), _host(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(_host(one), _host(three), strict=True))


def test_run_goes_on_where_it_stopped(backend: Backend) -> None:
    whole, parts = _learner(backend), _learner(backend)
    whole.run(_items(12))
    stream = iter(_items(12))
    assert parts.run(stream, 5).steps == 5
    assert parts.run(stream, 100).steps == 7, "the stream ends after twelve"
    assert parts.run(stream).steps == 0
    assert math.isnan(parts.run(stream).mean_loss)
    assert parts.steps == 12
    for a, b in zip(_host(whole), _host(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_noise_given_as_a_stream_is_used(backend: Backend) -> None:
    _, state = MODELS["gru"].init(np.random.default_rng(0))
    runs = [
        _learner(backend, seed=seed, signs=SharedNoise(UORO().draw, state, 9)) for seed in (1, 2)
    ]
    for learner in runs:
        learner.run(_items(6), chunk=4)
    for a, b in zip(_host(runs[0]), _host(runs[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_stream_is_cut_into_windows_for_unrolled_dynamics(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    times: list[Any] = []

    class Watch:
        """An optimizer that notes the time it is told."""

        def init(self, backend: Backend, params: Any) -> Any:
            return ()

        def update(self, backend: Any, gradient: Any, carry: Any, params: Any, time: Any) -> Any:
            times.append(time)
            return params, carry

    learner = Learner(unroll(dynamics, 4), Truncated(), Watch(), params, state)
    assert learner.run(iter(_items(14)), chunk=2).steps == 3, "the rest of two items is dropped"
    if not backend.compiled:
        assert times == [3, 7, 11], "time is the index of the newest item"
    assert learner.run(Windows(backend, _items(9), 4)).steps == 2, "windows pass as they are"
    with pytest.raises(StreamError, match=r"expected windows of 4 items.*got windows of 3"):
        learner.run(Windows(backend, _items(9), 3))
    with pytest.raises(SettingError, match="length=0"):
        Windows(backend, iter(()), 0)
    listed = Windows(backend, [1.0, 2.0, 3.0, 4.0, 5.0], 2)
    assert [backend.to_host(window).tolist() for window in listed] == [[1.0, 2.0], [3.0, 4.0]]


def test_truncated_bptt_takes_the_windows_of_unrolled_dynamics(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    own = Learner(dynamics, TruncatedBPTT(4), Adam(1e-2), params, state)
    unrolled = Learner(unroll(dynamics, 4), Truncated(), Adam(1e-2), params, state)
    assert own.run(iter(_items(14)), chunk=2) == unrolled.run(iter(_items(14)), chunk=2)
    for one, other in zip(_host(own), _host(unrolled), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stream_of_stacks_is_cut_into_a_window_for_each_row(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    three = backend.collect([state] * 3)
    stack = make_items(42)
    items = [{k: v.reshape(14, 3)[i] for k, v in stack.items()} for i in range(14)]
    windows = [{k: v.reshape(14, 3)[i : i + 4].T for k, v in stack.items()} for i in (0, 4, 8)]
    learners = [
        Learner(dynamics, Streams(TruncatedBPTT(4), 3), Adam(1e-2), params, three),
        Learner(unroll(dynamics, 4), Streams(Truncated(), 3), Adam(1e-2), params, three),
        Learner(unroll(dynamics, 4), Streams(Truncated(), 3), Adam(1e-2), params, three),
    ]
    for learner in learners[:2]:
        assert learner.run(items, chunk=3).steps == 3
    for window in windows:
        learners[2].step(window)
    for one, other, third in zip(*map(_host, learners), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, third, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_a_non_finite_loss_stops_and_keeps_what_there_is(backend: Backend, chunk: int) -> None:
    xp = backend.xp

    def transition(params: Any, state: Any, item: Any) -> Any:
        next_state = 0.5 * state + params
        return next_state, xp.sum(next_state) / item

    items = [1.0] * 6 + [0.0] + [1.0] * 5
    learner, twin = (
        Learner(
            backend.dynamics(transition),
            UORO(),
            SGD(1e-3),
            backend.from_host(np.array(1.0)),
            backend.from_host(np.zeros(2)),
        )
        for _ in range(2)
    )
    twin.run(items[:6])
    seen: list[Metrics] = []
    with np.errstate(divide="ignore"), pytest.raises(NonFiniteError, match="at step 6") as hit:
        learner.run(items, chunk=chunk, report=seen.append)
    assert hit.value.step == 6
    assert learner.steps == 6
    assert sum(len(m.losses) for m in seen) == 6
    assert all(math.isfinite(x) for m in seen for x in m.losses)
    for a, b in zip(_host(learner), _host(twin), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert learner.run(items[7:]).steps == 5, "it can go on"


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_params(backend: Backend) -> None:
    """sqrt has no derivative at zero: the loss is finite there, the gradient is not."""
    xp = backend.xp

    def transition(theta: Any, state: Any, item: Any) -> Any:
        return 0.5 * state, xp.sqrt(xp.sum((theta - item) ** 2))

    learner = Learner(
        backend.dynamics(transition),
        Truncated(),
        SGD(1e-3),
        backend.from_host(np.array([1.0, 1.0])),
        backend.from_host(np.zeros(2)),
    )

    with np.errstate(all="ignore"):
        learner.run([np.zeros(2)] * 3, chunk=10)
        here = np.array(backend.to_host(learner.params))
        with pytest.raises(NonFiniteError, match="gradient is nan at step 3"):
            learner.run([here, np.zeros(2)], chunk=10)
    np.testing.assert_array_equal(backend.to_host(learner.params), here)


def _predictor(backend: Backend, **options: Any) -> Learner:
    """Return a learner whose loss is that of the state before the item's ``x`` enters it."""

    def transition(theta: Any, state: Any, item: Any) -> Any:
        return 0.5 * state + item["x"], backend.xp.sum((theta * state - item["y"]) ** 2)

    start = backend.from_host((np.array(1.0), np.zeros(2)))
    return Learner(backend.dynamics(transition), UORO(), SGD(1e-3), *start, **options)


@pytest.mark.parametrize("chunk", [1, 2, 8])
@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ("y", r"loss is nan at step 4\..*Of this item, input 'y' is nan at index \[1\].*'skip'"),
        ("x", r"loss is nan at step 5\..*Of the item before, input 'x' is nan at index \[1\]"),
    ],
)
def test_an_item_that_is_not_finite_is_named(
    backend: Backend, leaf: str, expected: str, chunk: int
) -> None:
    items = [{"x": np.ones(2), "y": np.ones(2)} for _ in range(7)]
    items[4][leaf][1] = np.nan
    with pytest.raises(NonFiniteError, match=expected):
        _predictor(backend).run(items, chunk=chunk)
    if backend.name == "jax":
        with pytest.raises(NonFiniteError, match=expected.replace("'skip'", "")):
            _predictor(backend, donate=True).run(items, chunk=chunk)


def test_a_norm_at_zero_is_named_as_a_cause(backend: Backend) -> None:
    """The derivative of the second step is NaN in a plain model of the framework as well."""

    def transition(theta: Any, state: Any, item: Any) -> Any:
        return theta * item - 1.0, backend.xp.sqrt(backend.xp.sum(state**2))

    start = backend.from_host((np.array(1.0), np.zeros(1)))
    learner = Learner(backend.dynamics(transition), RTRL(), SGD(1e-3), *start)
    expected = "gradient is nan at step 1.*the derivative of a norm, a square root"
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=expected):
        learner.run([np.ones(1)] * 3, chunk=8)


def test_noise_that_ends_early_is_an_error(backend: Backend) -> None:
    signs = {"0": {"h": np.ones(4)}}
    for chunk in (1, 4):
        learner = _learner(backend, signs=iter([signs] * 2))
        with pytest.raises(StreamError, match=r"Learner\(signs=.*ended at or soon after step \d"):
            learner.run(_items(4), chunk=chunk)


def test_items_that_carry_nothing_are_counted(backend: Backend) -> None:
    def transition(theta: Any, state: Any, item: Any) -> Any:
        state = 0.5 * state + theta
        return state, (state**2).sum()

    theta, state = backend.from_host(np.array(1.0)), backend.from_host(np.zeros(2))
    learner = Learner(backend.dynamics(transition), UORO(), SGD(1e-3), theta, state)
    assert learner.run(repeat(None), 10, chunk=4).steps == 10


@pytest.mark.slow
def test_no_recompilation_between_chunks() -> None:
    traces = 0
    backend = load_backend("jax")
    dynamics, params, state = build(backend, MODELS["gru"])

    class Counted:
        """Dynamics that count how often they are traced."""

        span = 1

        def __init__(self) -> None:
            self.backend, self.forward, self.jvp = backend, dynamics.forward, dynamics.jvp

        def vjp(self, *arguments: Any) -> Any:
            nonlocal traces
            traces += 1
            return dynamics.vjp(*arguments)

    learner = Learner(Counted(), UORO(), Adam(inverse_sqrt(1e-3)), params, state)
    learner.run(_items(10), chunk=10)
    first = traces
    learner.run(_items(50), chunk=10)
    assert traces == first
    learner.step(_items(1)[0])
    second = traces
    for item in _items(3):
        learner.step(item)
    learner.run(_items(20), chunk=10)
    assert traces == second


def test_out_of_range_runs_are_refused(backend: Backend) -> None:
    learner = _learner(backend)
    with pytest.raises(SettingError, match=r"steps=-1, .*steps: expected an integer >= 0"):
        learner.run(_items(1), steps=-1)
    with pytest.raises(SettingError, match=r"chunk=0\).*chunk: expected an integer >= 1"):
        learner.run(_items(1), chunk=0)


def test_several_streams_learn(backend: Backend) -> None:
    """Three streams of one simple target: the shared parameter finds it."""
    xp = backend.xp

    def transition(theta: Any, state: Any, target: Any) -> Any:
        next_state = 0.5 * state + theta
        return next_state, 0.5 * xp.sum((next_state - target) ** 2)

    learner = Learner(
        backend.dynamics(transition),
        Streams(UORO(), 3),
        SGD(0.02),
        backend.from_host(np.array(0.0)),
        backend.from_host(np.zeros((3, 2))),
    )
    learner.run(np.ones(3) for _ in range(200))
    assert float(learner.params) == pytest.approx(0.5, abs=0.02)


def test_an_endless_stream_is_read_no_further_than_needed(backend: Backend) -> None:
    read = 0

    def endless() -> Iterator[Any]:
        nonlocal read
        while True:
            read += 1
            yield _items(1)[0]

    stream = endless()
    _learner(backend).run(stream, 7, chunk=3)
    assert read == 7
    assert len(list(islice(stream, 2))) == 2


@pytest.mark.slow
def test_the_estimator_lives_in_the_users_own_jit_and_scan() -> None:
    import jax

    backend = load_backend("jax")
    dynamics, params, state = build(backend, MODELS["gru"])
    estimator = UORO()

    @jax.jit
    def train(params: Any, state: Any, items: Any, seed: Any) -> Any:
        def body(carried: Any, item: Any) -> Any:
            params, carry, state, key = carried
            key, draw = jax.random.split(key)
            signs = estimator.draw(partial(backend.random, draw), state)
            carry, state, estimate = estimator.step(dynamics, params, carry, state, item, signs)
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, estimate.gradient)
            return (params, carry, state, key), estimate.loss

        start = params, estimator.init(dynamics, params, state), state, jax.random.key(seed)
        return jax.lax.scan(body, start, items)[1]

    items = backend.from_host(make_items(12))
    losses = jax.vmap(train, (None, None, None, 0))(params, state, items, np.arange(3))
    assert losses.shape == (3, 12)
    one = train(params, state, items, 2)
    np.testing.assert_allclose(losses[2], one, rtol=1e-5)


@pytest.mark.slow
def test_donated_buffers_change_no_number_and_leave_the_users_arrays() -> None:
    backend = load_backend("jax")
    dynamics, params, state = build(backend, MODELS["gru"])
    learners = [
        Learner(dynamics, UORO(), Adam(1e-2), params, state, donate=donate)
        for donate in (False, True)
    ]
    for learner in learners:
        learner.run(_items(20), chunk=5)
    for a, b in zip(*map(_host, learners), strict=True):
        np.testing.assert_array_equal(a, b)
    still: Any = backend.to_host(params)
    assert all(np.isfinite(np.asarray(leaf)).all() for _, leaf in backend.named_leaves(still))


def test_a_learner_that_gave_its_buffers_away_says_that_it_cannot_go_back() -> None:
    backend = load_backend("jax")
    dynamics = backend.dynamics(
        lambda theta, s, x: (s + theta, backend.xp.sum(s + theta) / x), check=False
    )
    start = backend.from_host(np.ones(1)), backend.from_host(np.zeros(1))
    learner = Learner(dynamics, UORO(), SGD(1e-3), *start, donate=True)
    items = [1.0] * 13 + [0.0] + [1.0] * 6
    with pytest.raises(
        NonFiniteError, match=r"donated \(donate=True\); reload a checkpoint"
    ) as hit:
        learner.run(items, chunk=10)
    assert hit.value.step == 13
