"""Streams shared out over devices; to be run where JAX sees eight of them.

`test_many_devices.py` does so, on simulated ones: how many there are is settled before JAX starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uoro_conformance.streams import check_streams
from uoro_conformance.systems import GALLERY
from uoro_jax import JaxBackend, ShardedStreams

from uoro import (
    RTRL,
    SGD,
    UORO,
    Adam,
    Dynamics,
    Estimator,
    Learner,
    RollingTruncated,
    Streams,
    unroll,
)
from uoro.errors import SettingError, StructureError
from uoro.estimators import ParallelEstimator
from uoro.learning import Metrics

DEVICES, COUNT, UNITS = 8, 16, 6

ROUNDING = 1e-13
"""Of float64: sums over streams are taken in another order, and training carries that along. The
gaps seen are about a hundred times smaller."""


@pytest.fixture
def backend() -> Iterator[JaxBackend]:
    loaded = JaxBackend()
    with loaded.precision("float64"):
        yield loaded


@pytest.fixture
def mesh() -> Any:
    assert jax.device_count() == DEVICES
    return jax.make_mesh((DEVICES,), ("streams",))


def _transition(params: Any, state: Any, item: Any) -> Any:
    """Step a network whose state holds an integer, a random key and complex numbers."""
    given, target = item
    hidden = jnp.tanh(params["recurrent"] @ state["hidden"] + params["input"] * given)
    turning = params["turn"] * state["turning"] + given
    error = params["readout"] @ hidden + turning.real - target
    following = {"hidden": hidden, "turning": turning, "seen": state["seen"] + 1}
    if "key" in state:
        following["key"], draw = jax.random.split(state["key"])
        error = error + 0.1 * jax.random.normal(draw)
    return following, 0.5 * error**2, hidden[:2]


def _model(backend: JaxBackend, *, draws: bool = False) -> tuple[Dynamics[Any, Any, Any], Any, Any]:
    """Make dynamics, params, and a stack of states."""
    generator = np.random.default_rng(0)
    params = {
        "recurrent": generator.normal(size=(UNITS, UNITS)) / UNITS**0.5,
        "input": generator.normal(size=UNITS),
        "readout": 0.1 * generator.normal(size=UNITS),
        "turn": np.array(0.4 + 0.5j),
    }
    state: dict[str, Any] = {
        "hidden": 0.3 * generator.normal(size=(COUNT, UNITS)),
        "turning": generator.normal(size=COUNT) + 0j,
        "seen": np.zeros(COUNT, int),
    }
    if draws:
        state["key"] = jax.random.split(jax.random.key(1), COUNT)
    dynamics = backend.dynamics(_transition, has_aux=True)
    return dynamics, backend.from_host(params), backend.from_host(state)


def _items(steps: int, seed: int = 5) -> list[Any]:
    """Draw items that differ from stream to stream."""
    generator = np.random.default_rng(seed)
    return [(generator.normal(size=COUNT), generator.normal(size=COUNT)) for _ in range(steps)]


def _train(backend: JaxBackend, streams: ParallelEstimator, span: int) -> tuple[Learner, Any]:
    """Run compiled chunks, start some streams anew, and run another."""
    dynamics, params, state = _model(backend)
    if span > 1:
        dynamics = unroll(dynamics, span)
    learner = Learner(dynamics, streams, Adam(1e-3), params, state, seed=3)
    losses: list[float] = []
    items = iter(_items(45 * span))

    def report(metrics: Metrics) -> None:
        losses.extend(metrics.losses)

    learner.run(items, 30, chunk=15, report=report)
    anew = np.arange(COUNT) % 5 == 1
    learner.reset(anew, backend.map(lambda leaf: jnp.roll(leaf, 1, 0), state))
    learner.run(items, 15, report=report)
    tree = learner.params, learner.state, learner.carry
    return learner, backend.to_host((tree, np.array(losses)))


def _gap(got: Any, wanted: Any) -> float:
    """Measure the largest difference of a leaf, relative to its largest entry."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
    return max(
        float(np.abs(a.astype(b.dtype) - b).max() / max(np.abs(b).max(), 1e-300))
        for a, b in ((x, y if y.dtype.kind in "fc" else y.astype(float)) for x, y in pairs)
    )


@pytest.mark.parametrize(
    ("estimator", "span"),
    [(UORO(rank=2, distribution="spherical"), 3), (RollingTruncated(3), 1)],
    ids=["rank 2 of memory-3", "rolling"],
)
def test_training_is_that_of_one_device(
    backend: JaxBackend, mesh: Any, estimator: Estimator, span: int
) -> None:
    learner, sharded = _train(backend, ShardedStreams(estimator, COUNT, mesh), span)
    _, single = _train(backend, Streams(estimator, COUNT), span)
    assert _gap(sharded, single) < ROUNDING
    for leaf in jax.tree.leaves((learner.state, learner.carry)):
        shards = leaf.addressable_shards
        assert [shard.data.shape[0] for shard in shards] == [COUNT // DEVICES] * DEVICES
        assert {shard.device for shard in shards} == set(jax.devices())
    for leaf in jax.tree.leaves(learner.params):
        assert leaf.sharding.is_fully_replicated


def test_pairs_are_sharded_from_the_start(backend: JaxBackend, mesh: Any) -> None:
    dynamics, params, state = _model(backend)
    streams = ShardedStreams(UORO(rank=2), COUNT, mesh)
    for leaf in jax.tree.leaves(streams.init(dynamics, params, state)):
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {COUNT // DEVICES}
        assert not leaf.any()


class Unaveraged(ShardedStreams):
    """Streams of which those of the first device alone give the gradient."""

    def step(self, *arguments: Any) -> Any:
        carry, state, estimate = super().step(*arguments)
        dynamics, params, *stacks = arguments
        *_, wrong = self._each.step(dynamics, params, *jax.tree.map(lambda x: x[0], stacks))
        return carry, state, estimate._replace(gradient=wrong.gradient)


def test_each_stream_is_what_it_would_be_alone(backend: JaxBackend, mesh: Any) -> None:
    trial = GALLERY[0].build(backend)
    check_streams(trial, ShardedStreams(UORO(rank=2), DEVICES, mesh)).require()
    check_streams(trial, ShardedStreams(RTRL(), DEVICES, mesh)).require()
    refused = check_streams(trial, Unaveraged(UORO(), DEVICES, mesh))
    assert refused.verdict == "broken"
    assert "gradient" in refused.evidence


def test_loss_and_gradient_alone_go_between_devices(backend: JaxBackend, mesh: Any) -> None:
    dynamics, params, state = _model(backend)
    streams = ShardedStreams(UORO(rank=2), COUNT, mesh)
    item = backend.from_host(_items(1)[0])
    carry = streams.init(dynamics, params, state)

    @jax.jit
    def step(params: Any, carry: Any, state: Any, item: Any, key: Any) -> Any:
        signs = streams.draw(partial(backend.random, key), state)
        return streams.step(dynamics, params, carry, state, item, signs)

    carry, state, _ = step(params, carry, state, item, backend.key(0))
    text: Any = step.lower(params, carry, state, item, backend.key(1)).compile().as_text()
    talk = re.findall(
        r"= (.*) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\S*\(", text
    )
    sizes = [
        int(np.prod([int(n) for n in shape.split(",") if n]))
        for moved, _ in talk
        for shape in re.findall(r"\[([\d,]*)\]", moved)
    ]
    assert {kind for _, kind in talk} == {"all-reduce"}, talk
    assert sum(sizes) == 1 + sum(leaf.size for leaf in jax.tree.leaves(params)), talk


def test_it_runs_in_your_own_jit_and_scan(backend: JaxBackend, mesh: Any) -> None:
    items = backend.collect(_items(10))

    def run(streams: ParallelEstimator) -> Any:
        dynamics, params, state = _model(backend, draws=True)

        def body(carried: Any, item: Any) -> Any:
            carry, state, key = carried
            key, draw = jax.random.split(key)
            signs = streams.draw(partial(backend.random, draw), state)
            carry, state, estimate = streams.step(dynamics, params, carry, state, item, signs)
            return (carry, state, key), estimate

        @jax.jit
        def loop(state: Any, items: Any) -> Any:
            carry = streams.init(dynamics, params, state)
            return jax.lax.scan(body, (carry, state, jax.random.key(0)), items)

        (carry, state, _), estimates = loop(state, items)
        assert estimates.aux.shape == (10, COUNT, 2)
        return backend.to_host((carry, state, estimates))

    assert _gap(run(ShardedStreams(UORO(), COUNT, mesh)), run(Streams(UORO(), COUNT))) < ROUNDING


def test_one_axis_of_a_larger_mesh_is_enough(backend: JaxBackend) -> None:
    mesh = jax.make_mesh((2, 4), ("copies", "streams"))
    streams = ShardedStreams(UORO(), DEVICES, mesh, axis="streams")
    check_streams(GALLERY[0].build(backend), streams).require()
    with pytest.raises(
        SettingError, match=r"expected one axis, got \('copies', 'streams'\).*axis=\.\.\."
    ):
        ShardedStreams(UORO(), COUNT, mesh)


def test_what_cannot_be_shared_out_is_refused(backend: JaxBackend, mesh: Any) -> None:
    with pytest.raises(SettingError, match=r"count=12.*a multiple of 8 devices, got 12.*count=16"):
        ShardedStreams(UORO(), 12, mesh)
    with pytest.raises(SettingError, match=r"axis: expected one of \('streams',\), got 'rows'"):
        ShardedStreams(UORO(), COUNT, mesh, axis="rows")
    with pytest.raises(SettingError, match="count: expected an integer >= 1"):
        ShardedStreams(UORO(), 0, mesh)
    dynamics, params, state = _model(backend)
    streams = ShardedStreams(UORO(), COUNT, mesh)
    few = jax.tree.map(lambda leaf: leaf[:DEVICES], state)
    with pytest.raises(StructureError, match=r"ShardedStreams\(count=16\).init\(state\).*\(8, 6\)"):
        streams.init(dynamics, params, few)
    learner = Learner(dynamics, streams, SGD(0.1), params, state)
    item = _items(1)[0]
    with pytest.raises(StructureError, match=r"init\(inputs\).*leading axis of 16"):
        learner.step(tuple(leaf[:8] for leaf in item))
    learner.step(item)
    with pytest.raises(StructureError, match=r"reset\(mask=.*: the array: .*, got shape \(2,\)"):
        learner.reset(np.array([True, False]), state)


def test_arrays_on_another_device_are_refused(backend: JaxBackend, mesh: Any) -> None:
    elsewhere = JaxBackend(device="cpu:1")
    dynamics, params, state = _model(elsewhere)
    learner = Learner(dynamics, ShardedStreams(UORO(), COUNT, mesh), SGD(0.1), params, state)
    with pytest.raises(SettingError, match=r"arrays on cpu:0, cpu:1.*got an array on cpu:1\."):
        learner.step(_items(1)[0])
