"""A learner that is saved and restored goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import MODELS, build, make_items
from uoro_jax import OptaxOptimizer
from uoro_torch import TorchOptimizer

from uoro import (
    RTRL,
    SGD,
    UORO,
    Adam,
    Backend,
    Estimator,
    Learner,
    Optimizer,
    RollingTruncated,
    Streams,
    load_backend,
    unroll,
)
from uoro.errors import NonFiniteError, SettingError, StructureError
from uoro.learning.host_noise import SharedNoise
from uoro.learning.saved import Saved
from uoro.learning.update import ERA, Clock

ESTIMATORS = [UORO(), UORO(rank=2), RTRL(), RollingTruncated(3)]


def _items(count: int) -> list[Any]:
    stack = make_items(count)
    return [{name: leaf[i] for name, leaf in stack.items()} for i in range(count)]


def _learner(
    backend: Backend,
    estimator: Estimator | None = None,
    optimizer: Optimizer | None = None,
    **options: Any,
) -> Learner:
    dynamics, params, state = build(backend, MODELS["gru"])
    return Learner(dynamics, estimator or UORO(), optimizer or Adam(1e-2), params, state, **options)


def _require_equal(one: Saved, two: Saved) -> None:
    assert one.counts == two.counts
    assert one.arrays.keys() == two.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, two.arrays[name], name, strict=True)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_a_restored_learner_goes_on_bit_for_bit(backend: Backend, estimator: Estimator) -> None:
    items = _items(20)
    whole, first, second = (_learner(backend, estimator, seed=seed) for seed in (3, 3, 8))
    whole.run(items, chunk=8)
    first.run(items[:11], chunk=8)
    saved = first.export()
    first.run(items[11:])
    second.restore(saved, inputs=items[0])
    second.run(items[11:], chunk=8)
    _require_equal(whole.export(), second.export())
    _require_equal(whole.export(), first.export())


def test_how_a_compiled_run_is_cut_changes_no_bit() -> None:
    learner = _learner(load_backend("jax"))
    items = _items(24)
    start = learner.export()
    learner.run(items, chunk=32)
    whole = learner.export()

    @given(st.lists(st.integers(1, 24), max_size=6))
    @settings(max_examples=30, deadline=None, derandomize=True)
    def cut(lengths: list[int]) -> None:
        learner.restore(start)
        stream = iter(items)
        for length in lengths:
            learner.run(stream, length, chunk=32)
        learner.run(stream, chunk=32)
        _require_equal(whole, learner.export())

    cut()


@pytest.mark.parametrize("names", [("autograd", "torch"), ("torch", "jax"), ("jax", "autograd")])
@pytest.mark.parametrize("estimator", [UORO(rank=2), RollingTruncated(3)], ids=str)
def test_what_one_backend_saved_another_goes_on_from(
    names: tuple[str, str], estimator: Estimator
) -> None:
    items = _items(16)
    _, state = MODELS["gru"].init(np.random.default_rng(0))

    def make(name: str) -> Learner:
        signs = SharedNoise(estimator.draw, state, 5)
        given = signs if signs.used else None
        return _learner(load_backend(name), estimator, signs=given)

    with jax.enable_x64(True):
        one, other = (make(name) for name in names)
        one.run(items[:9])
        other.restore(one.export(), inputs=items[0])
        if other._stepper._signs is not None:
            other._stepper._signs.take(9)  # type: ignore[attr-defined]  # as many as were used
        one.run(items[9:])
        other.run(items[9:])
        for name, array in one.export().arrays.items():
            np.testing.assert_allclose(
                other.export().arrays[name], array, rtol=1e-9, atol=1e-12, err_msg=name
            )


def test_streams_and_their_reset_go_on(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    states = backend.map(lambda leaf: backend.xp.stack([leaf, leaf]), state)
    items = [{k: np.stack([v, v]) for k, v in item.items()} for item in _items(12)]
    one, other = (
        Learner(dynamics, Streams(RollingTruncated(3), 2), SGD(1e-2), params, states)
        for _ in range(2)
    )
    one.run(items[:6])
    other.restore(one.export(), inputs=items[0])
    for learner in (one, other):
        learner.reset(np.array([True, False]), states)
        learner.run(items[6:])
    _require_equal(one.export(), other.export())


@pytest.mark.parametrize("make", [torch.optim.RMSprop, torch.optim.AdamW, torch.optim.SGD])
def test_torch_optimizers_are_saved_with_all_they_keep(make: Any) -> None:
    backend = load_backend("torch")
    items = _items(12)

    def learner() -> Learner:
        dynamics, params, state = build(backend, MODELS["gru"])
        params = backend.map(lambda leaf: leaf.clone().requires_grad_(), params)
        leaves: list[Any] = [leaf for _, leaf in backend.named_leaves(params)]
        for leaf in leaves:
            leaf.requires_grad_()
        return Learner(dynamics, UORO(), TorchOptimizer(make(leaves, lr=1e-2)), params, state)

    whole, first, second = (learner() for _ in range(3))
    whole.run(items)
    first.run(items[:5])
    second.restore(first.export())
    second.run(items[5:])
    _require_equal(whole.export(), second.export())
    if make is not torch.optim.SGD:
        with pytest.raises(StructureError, match="TorchOptimizer"):
            second.restore(Saved(whole.export().arrays, whole.export().counts | {"optimizer": 3}))


def test_optax_transformations_are_saved() -> None:
    backend = load_backend("jax")
    items = _items(12)
    chain = optax.chain(optax.clip(1.0), optax.adamw(optax.exponential_decay(1e-2, 5, 0.9)))
    whole, first, second = (
        _learner(backend, UORO(), OptaxOptimizer(chain), seed=1) for _ in range(3)
    )
    whole.run(items)
    first.run(items[:5])
    second.restore(first.export())
    second.run(items[5:])
    _require_equal(whole.export(), second.export())


def test_keys_and_integers_in_the_state_come_back() -> None:
    backend = load_backend("jax")
    xp = backend.xp

    def transition(theta: Any, state: Any, x: Any) -> Any:
        key, use = jax.random.split(state["key"])
        h = xp.tanh(theta * state["h"] + x + 0.1 * jax.random.normal(use, (2,)))
        return {"h": h, "key": key, "count": state["count"] + 1}, (h**2).sum()

    def learner() -> Learner:
        state = {"h": xp.zeros(2), "key": jax.random.key(7), "count": xp.array(0)}
        return Learner(backend.dynamics(transition), UORO(), SGD(0.1), xp.array(0.5), state)

    whole, first, second = (learner() for _ in range(3))
    whole.run([0.1] * 9)
    first.run([0.1] * 4)
    second.restore(first.export())
    second.run([0.1] * 5)
    _require_equal(whole.export(), second.export())
    assert int(second.state["count"]) == 9


def test_memory_t_goes_on(backend: Backend) -> None:
    dynamics, params, state = build(backend, MODELS["gru"])
    stack = make_items(24)
    items = [{k: v[i] for k, v in stack.items()} for i in range(24)]
    one, other = (Learner(unroll(dynamics, 4), UORO(), Adam(1e-2), params, state) for _ in range(2))
    one.run(items[:8])
    other.restore(one.export())
    one.run(items[8:])
    other.run(items[8:])
    _require_equal(one.export(), other.export())


def test_another_model_estimator_or_optimizer_is_refused_by_name(backend: Backend) -> None:
    learner = _learner(backend)
    learner.run(_items(3))
    saved = learner.export()
    before = _learner(backend, UORO(rank=2)).export()
    for other, name in (
        (_learner(backend, UORO(rank=2)), "carry/tangent"),
        (_learner(backend, RTRL()), "carry"),
        (_learner(backend, optimizer=SGD(0.1)), "optimizer/first"),
    ):
        with pytest.raises(StructureError, match=name):
            other.restore(saved)
        assert other.steps == 0
    other = _learner(backend, UORO(rank=2))
    with pytest.raises(StructureError):
        other.restore(saved)
    _require_equal(other.export(), before)
    for broken in (Saved(saved.arrays, {}), Saved(saved.arrays, None), None):  # type: ignore[arg-type]
        with pytest.raises(StructureError, match="export"):
            learner.restore(broken)  # type: ignore[arg-type]
    rolling = _learner(backend, RollingTruncated(3))
    rolling.run(_items(3))
    saved = rolling.export()
    with pytest.raises(SettingError, match="expected an item of the stream"):
        rolling.restore(saved)


# Numbers that are not finite.


def _explosive(backend: Backend, policy: Any, **options: Any) -> Learner:
    """A linear model; an item of NaN or infinity makes the loss one."""

    def transition(theta: Any, state: Any, x: Any) -> Any:
        state = 0.5 * state + theta * x
        return state, ((state - 1.0) ** 2).sum()

    theta = backend.from_host(np.array(0.3))
    state = backend.from_host(np.zeros(2))
    return Learner(
        backend.dynamics(transition), UORO(), SGD(0.01), theta, state, on_nonfinite=policy,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("policy", ["skip", "reset"])
def test_items_that_explode_are_left_out_and_counted(
    backend: Backend, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = [0.1 * i for i in range(20)]
    for place in (0, 7, 8, 19):
        numbers[place] = math.nan if place % 2 else math.inf
    learner = _explosive(backend, policy)
    with np.errstate(invalid="ignore", over="ignore"):
        summary = learner.run([np.array(x) for x in numbers], chunk=16)
    assert summary.steps == learner.steps == 20
    assert learner.skipped == 4
    assert learner.resets == (4 if policy == "reset" else 0)
    assert math.isfinite(summary.mean_loss)
    assert "was skipped" in caplog.text
    if policy == "skip":
        # As a run would be that draws the same signs and never saw those items.
        other = _explosive(backend, "stop")
        for i, x in enumerate(numbers):
            other._stepper.steps = i
            if math.isfinite(x):
                other.step(np.array(x))
        for name, array in other.export().arrays.items():
            np.testing.assert_allclose(learner.export().arrays[name], array, rtol=1e-12)


def test_every_failing_step_of_a_compiled_chunk_is_found() -> None:
    learner = _explosive(load_backend("jax"), "stop")
    start = learner.export()
    for place in range(11):
        numbers = np.full(11, 0.2)
        numbers[place] = np.nan
        learner.restore(start)
        learner.run(list(numbers[:place]), chunk=16)
        before = learner.export()
        learner.restore(start)
        with pytest.raises(NonFiniteError) as caught:
            learner.run(list(numbers), chunk=16)
        assert caught.value.step == place == learner.steps
        if place:
            _require_equal(learner.export(), before)


def test_a_pair_that_overflowed_is_made_anew(backend: Backend) -> None:
    learner = _explosive(backend, "reset")
    learner.run([np.array(0.1)] * 5)
    saved = learner.export()
    poisoned = dict(saved.arrays)
    poisoned["carry/cotangent"] = np.full_like(poisoned["carry/cotangent"], np.inf)
    for policy in ("reset", "skip"):
        again = _explosive(backend, policy)
        again.restore(Saved(poisoned, saved.counts))
        with np.errstate(invalid="ignore"):
            if policy == "skip":
                with pytest.raises(NonFiniteError, match="before this item already: carry"):
                    again.run([np.array(0.1)] * 5)
                continue
            again.run([np.array(0.1)] * 5)
        assert (again.resets, again.skipped) == (1, 0)
        assert math.isfinite(float(again.params))


def test_a_stream_of_nothing_but_nan_is_given_up(backend: Backend) -> None:
    def forever() -> Iterator[Any]:
        while True:
            yield np.array(math.nan)

    learner = _explosive(backend, "skip")
    with pytest.raises(NonFiniteError, match="100 items in a row"):
        learner.run(forever(), chunk=16)
    assert learner.skipped == 99


def test_policies_that_cannot_be_are_refused(backend: Backend) -> None:
    with pytest.raises(SettingError, match="'stop', 'skip', 'reset', got 'explode'"):
        _explosive(backend, "explode")
    with pytest.raises(SettingError, match="donate"):
        _explosive(backend, "skip", donate=True)


# Runs of more steps than a 32-bit integer counts.


def test_a_run_goes_on_beyond_what_an_integer_counts(backend: Backend) -> None:
    times: list[float] = []

    class Watch:
        """An optimizer that notes the time it is told, in the params."""

        def init(self, backend: Backend, params: Any) -> Any:
            return ()

        def update(self, backend: Any, gradient: Any, carry: Any, params: Any, time: Any) -> Any:
            return backend.map(lambda leaf: leaf * 0.0 + time * 1e-9, params), carry

    start = ERA - 3
    for span in (1, 4):
        dynamics, params, state = build(backend, MODELS["gru"])
        stack = make_items(8 * span)
        items: list[Any] = [{k: v[i] for k, v in stack.items()} for i in range(8 * span)]
        unrolled = unroll(dynamics, span) if span > 1 else dynamics
        learner = Learner(unrolled, UORO(), Watch(), params, state)
        learner.run(items[:span])
        saved = learner.export()
        learner.restore(Saved(saved.arrays, saved.counts | {"steps": start}))
        learner.run(items, chunk=8)
        assert learner.steps == start + 8
        newest = ((start + 8) * span - 1) * 1e-9
        found = float(next(iter(learner.export().arrays.values())).reshape(-1)[0])
        times.append(found / newest)
    assert times == pytest.approx([1.0, 1.0], rel=1e-6)


def test_every_era_draws_noise_of_its_own(backend: Backend) -> None:
    like, key = backend.from_host(np.zeros(64)), backend.key(4)
    drawn = set()
    for step in (0, 1, 5, ERA - 1, ERA, ERA + 1, ERA + 5, 2 * ERA, 2 * ERA + 1):
        clock = Clock.at(backend, key, step)
        signs = backend.random(backend.fold(clock.key, clock.number), like, "signs")
        drawn.add(tuple(np.asarray(backend.to_host(signs)).tolist()))
    assert len(drawn) == 9
