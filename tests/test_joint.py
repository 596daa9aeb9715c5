"""The joint estimate of rank k: unbiased, exact from a rank of n on, and of the least variance."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from systems import TINY_MODELS, build, entries, jiggle, make_items, relative
from uoro_conformance import (
    System,
    Trial,
    check_chain,
    check_gradient_path,
    check_mean_over_all_signs,
    check_parity,
)
from uoro_conformance.cells import KINDS

from uoro import RTRL, SGD, UORO, Backend, JointUORO, Learner, Streams, load_backend, unroll
from uoro.algebra import basis, coordinates, entry, norm
from uoro.errors import SettingError, StructureError
from uoro.estimators import JointInfluence
from uoro.estimators.projections import projections
from uoro.models import SymbolModel, Tanh
from uoro.monitors import make_monitor

ALPHABET = 3


def _tanh(backend: Backend, units: int, dtype: str = "float64") -> tuple[Any, Any, Any]:
    model = SymbolModel((Tanh(units),), ALPHABET)
    params, state = model.init(np.random.default_rng(units))
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    return dynamics, *(backend.from_host(tree, dtype=dtype) for tree in (params, state))


def _schedule(backend: Backend, name: str, steps: int) -> tuple[Any, Any, Any, Any]:
    dynamics, params, state = build(backend, TINY_MODELS[name])
    host = backend.to_host(params)
    moved = [backend.from_host(jiggle(host, np.random.default_rng(step))) for step in range(steps)]
    return dynamics, moved, state, entries(backend, make_items(steps), steps)


# Unbiased.


@pytest.mark.parametrize("name", ["rnn", "two leaves"])
def test_mean_over_all_signs_of_one_joint_pair_equals_rtrl(backend: Backend, name: str) -> None:
    system = _schedule(backend, name, 2)
    finding = check_mean_over_all_signs(*system, estimator=JointUORO(1), tolerance=1e-10)
    assert "256 sequences of 2 steps" in finding.require().evidence


def test_mean_over_all_signs_of_two_joint_pairs_equals_rtrl(backend: Backend) -> None:
    dynamics, params, state = _tanh(backend, 3)
    system = dynamics, [params], state, entries(backend, make_items(1), 1)
    check_mean_over_all_signs(*system, estimator=JointUORO(2), tolerance=1e-10).require()


def test_mean_over_all_signs_equals_rtrl_for_memory_two(backend: Backend) -> None:
    dynamics, schedule, state, _ = _schedule(backend, "gru", 2)
    items = make_items(4)
    windows = [
        backend.from_host({name: column[i : i + 2] for name, column in items.items()})
        for i in (0, 2)
    ]
    system = unroll(dynamics, 2), schedule, state, windows
    check_mean_over_all_signs(*system, estimator=JointUORO(1), tolerance=1e-10).require()


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_is_unbiased_at_any_memory_on_systems_of_each_kind(kind: str) -> None:
    backend = load_backend("torch")
    for n, rank in ((2, 1), (1, 3), (3, 2)):
        trial = System(kind, n, 2, seed=3).build(backend)
        check_chain(trial, JointUORO(rank)).require()
        check_gradient_path(trial, JointUORO(rank)).require()


def test_each_step_of_two_pairs_is_unbiased_where_all_is_scalar(backend: Backend) -> None:
    def transition(w: Any, state: Any, x: Any) -> Any:
        state = backend.xp.tanh(w * state + x)
        return state, state**2

    numbers = (np.array(0.7), np.array(0.3), np.array(-0.4))
    w, state, item = (backend.from_host(number) for number in numbers)
    trial = Trial(backend.dynamics(transition), [w, 0.5 * w], state, [item, 2 * item])
    check_chain(trial, JointUORO(2)).require()


# Exact.


@pytest.mark.parametrize(
    ("units", "rank"),
    [
        *((4, 4), (2, 9)),
        *(pytest.param(*case, marks=pytest.mark.thorough) for case in ((5, 5), (4, 7), (1, 1))),
    ],
)
def test_a_rank_of_the_number_of_units_is_rtrl_for_a_thousand_steps(units: int, rank: int) -> None:
    backend = load_backend("jax")
    with backend.precision("float64"):
        assert _worst_gap(backend, units, rank, 1000) < 1e-10


@pytest.mark.parametrize("rank", [4, 6])
def test_a_rank_of_the_number_of_units_is_rtrl_on_each_backend(backend: Backend, rank: int) -> None:
    assert _worst_gap(backend, 4, rank, 50) < 1e-12


@pytest.mark.slow
def test_a_rank_of_the_number_of_units_is_rtrl_up_to_the_rounding_of_float32() -> None:
    for name in ("autograd", "torch", "jax"):
        assert _worst_gap(load_backend(name), 4, 4, 100, "float32") < 1e-5, name


def _worst_gap(
    backend: Backend, units: int, rank: int, steps: int, dtype: str = "float64"
) -> float:
    """Follow the estimator and RTRL, and give the largest relative gap of their gradients."""
    dynamics, params, state = _tanh(backend, units, dtype)
    joint, exact = JointUORO(rank), RTRL()
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (steps, 2, units))
    drawn = {"0": {"h": backend.from_host(signs, dtype=dtype)}}
    stream = backend.from_host(make_items(steps)), drawn

    def body(carried: Any, inputs: Any) -> Any:
        carry, influence, state = carried
        item, drawn = inputs
        after: Any
        after, _, estimate = joint.step(dynamics, params, carry, state, item, drawn)
        influence, state, wanted = exact.step(dynamics, params, influence, state, item, None)
        apart = backend.combine((1.0, estimate.gradient), (-1.0, wanted.gradient))
        sizes = norm(backend, apart), norm(backend, wanted.gradient)
        return (after, influence, state), (*map(backend.from_host, sizes), after.added)

    start = *(each.init(dynamics, params, state) for each in (joint, exact)), state
    follow = backend.compile(lambda start, stream: backend.scan(body, start, stream))
    gaps, sizes, added = backend.to_host(follow(start, stream)[1])
    assert not np.any(added)
    return float(np.max(np.asarray(gaps) / np.asarray(sizes)))


# The numbers of a dense reference.


@pytest.mark.parametrize(("units", "rank"), [(3, 2), (5, 2), (7, 3)])
def test_pairs_and_gradients_are_those_of_a_dense_svd(
    backend: Backend, units: int, rank: int
) -> None:
    """Influence and variance step by step, from the SVD of the dense sum at the same memory."""
    dynamics, params, state = _tanh(backend, units)
    trial = Trial(dynamics, [params] * 5, state, entries(backend, make_items(5), 5))
    check_parity(trial, JointUORO(rank), seed=rank).require()


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_those_of_a_dense_svd_on_systems_of_each_kind(kind: str) -> None:
    backend = load_backend("autograd")
    for n, rank in ((1, 1), (2, 1), (3, 1), (3, 2), (2, 3)):
        system = System(kind, n, 4, seed=5)
        check_parity(system.build(backend), JointUORO(rank)).require()


def _lift(backend: Backend, tree: Any) -> Any:
    return backend.map(lambda leaf: leaf[None], tree)


def _rows(backend: Backend, stack: Any) -> Any:
    return np.asarray(backend.to_host(coordinates(backend, stack)))


def _pairs(backend: Backend, carry: Any, rank: int) -> tuple[Any, Any]:
    parts = carry.tangent, carry.cotangent
    if rank == 1:
        parts = tuple(_lift(backend, part) for part in parts)
    return _rows(backend, parts[0]), _rows(backend, parts[1])


# What one step takes for granted of the one before.


@pytest.mark.parametrize(("dtype", "allowed"), [("float64", 1e-10), ("float32", 1e-3)])
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_both_sides_have_the_same_inner_products(
    backend: Backend, rank: int, dtype: str, allowed: float
) -> None:
    dynamics, params, state = _tanh(backend, 5, dtype)
    learner = Learner(dynamics, JointUORO(rank), SGD(1e-3), params, state)
    learner.run(entries(backend, make_items(200), 200))
    tangents, cotangents = (rows.astype(float) for rows in _pairs(backend, learner.carry, rank))
    wanted = cotangents @ cotangents.T
    lengths = np.sqrt(np.diag(wanted))
    gaps = abs(tangents @ tangents.T - wanted) / (np.outer(lengths, lengths) + 1e-12)
    assert lengths.max() > 0.1
    assert gaps.max() < allowed


def test_pairs_that_have_other_ones_are_advanced_without_bias_too(backend: Backend) -> None:
    dynamics, params, state = _tanh(backend, 3)
    estimator, generator = JointUORO(2), np.random.default_rng(4)
    carry: Any = estimator.init(dynamics, params, state)
    tangent, cotangent = (
        backend.map(lambda leaf: leaf + backend.from_host(generator.normal(size=leaf.shape)), tree)
        for tree in (carry.tangent, carry.cotangent)
    )
    carry = JointInfluence(tangent, backend.combine((30.0, cotangent)), carry.added)
    item = entries(backend, make_items(1), 1)[0]
    step = backend.compile(partial(estimator.step, dynamics))
    _, pullback = dynamics.vjp(params, state, item)
    units = basis(backend, state)
    by_params = _rows(backend, backend.vmap(lambda row: pullback(row, None)[0])(units))
    by_state = _rows(backend, backend.vmap(lambda row: pullback(row, None)[1])(units))
    pairs = _pairs(backend, carry, 2)
    wanted = by_state @ pairs[0].T @ pairs[1] + by_params
    every = np.array(list(product((-1.0, 1.0), repeat=6))).reshape((-1, 2, 3))
    mean = 0.0 * wanted
    for signs in every:
        drawn = {"0": {"h": backend.from_host(signs)}}
        after, _, _ = step(params, carry, state, item, drawn)
        tangents, cotangents = _pairs(backend, after, 2)
        mean += tangents.T @ cotangents / len(every)
    np.testing.assert_allclose(mean, wanted, atol=1e-7 * abs(wanted).max())


# Projections.


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_projections_resolve_the_identity(backend: Backend, n: int) -> None:
    every_sign = np.array(list(product((-1.0, 1.0), repeat=n)))
    for count in {1, 2, n // 2 + 1, n, n + 2}:
        total = np.zeros((n, n))
        for signs in every_sign:
            rows = np.asarray(
                backend.to_host(projections(backend, backend.from_host(signs), count))
            )
            assert rows.shape == (count, n)
            if count <= n:
                np.testing.assert_allclose(rows @ rows.T, n / count * np.eye(count), atol=1e-12)
            else:
                np.testing.assert_allclose(rows.T @ rows, np.eye(n), atol=1e-12)
            np.testing.assert_allclose((rows**2).sum(0), 1.0, atol=1e-12)
            total += rows.T @ rows
        np.testing.assert_allclose(total / len(every_sign), np.eye(n), atol=1e-12)


# What it is made of.


def test_the_carry_of_rank_one_has_no_leading_axis_and_of_more_it_has(backend: Backend) -> None:
    dynamics, params, state = _tanh(backend, 3)
    each: list[Any] = [JointUORO(rank).init(dynamics, params, state) for rank in (1, 2)]
    one, two = each
    assert isinstance(one, JointInfluence)
    assert tuple(one.tangent["0"]["h"].shape) == (3,)
    assert tuple(two.tangent["0"]["h"].shape) == (2, 3)
    assert float(two.added) == 0.0


def test_pairs_of_the_other_estimator_are_refused(backend: Backend) -> None:
    dynamics, params, state = _tanh(backend, 3)
    item = entries(backend, make_items(1), 1)[0]
    both: tuple[Any, Any] = UORO(rank=2), JointUORO(2)
    for one, other in (both, both[::-1]):
        drawn = {"0": {"h": backend.from_host(np.ones((2, 3)))}}
        with pytest.raises(StructureError, match="Make it by init"):
            one.step(dynamics, params, other.init(dynamics, params, state), state, item, drawn)


def test_monitors_measure_joint_pairs_and_take_no_noise_from_them(backend: Backend) -> None:
    dynamics, params, state = _tanh(backend, 3)
    learner = Learner(dynamics, JointUORO(2), SGD(1e-3), params, state)
    items = entries(backend, make_items(4), 4)
    learner.run(items)
    point = learner.params, learner.carry, learner.state, items[0]
    monitor = make_monitor("pair")
    found = monitor.measure(dynamics, monitor.wrap(learner.estimator), *point)
    tangents, cotangents = _pairs(backend, learner.carry, 2)
    largest = (np.linalg.norm(tangents, axis=1) * np.linalg.norm(cotangents, axis=1)).max()
    assert found["pair/largest"] == pytest.approx(largest)
    for name in ("noise", "noise:replicas=2"):
        with pytest.raises(SettingError, match="one estimate together"):
            make_monitor(name).wrap(learner.estimator)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_variance_added_is_told_relative_to_the_estimate(rank: int) -> None:
    backend = load_backend("autograd")
    dynamics, params, state = _tanh(backend, 5)
    learner = Learner(dynamics, JointUORO(rank), SGD(1e-3), params, state)
    items = entries(backend, make_items(4), 4)
    learner.run(items)
    monitor = make_monitor("added")
    estimator, carry = monitor.wrap(learner.estimator), learner.carry
    found = monitor.measure(dynamics, estimator, learner.params, carry, learner.state, items[0])
    tangents, cotangents = _pairs(backend, carry, rank)
    squared = float(((tangents.T @ cotangents) ** 2).sum())
    assert found["added/variance"] == float(carry.added) > 0
    assert found["added/influence_squared"] == pytest.approx(squared)
    assert found["added/relative"] == pytest.approx(float(carry.added) / squared)
    both = backend.collect([carry, carry])
    streams = Streams(estimator, 2)
    found = monitor.measure(dynamics, streams, learner.params, both, None, None)
    assert found["added/variance"] == pytest.approx(2 * float(carry.added))
    assert found["added/influence_squared"] == pytest.approx(2 * squared)


def test_streams_of_joint_pairs_are_each_what_they_are_alone(backend: Backend) -> None:
    dynamics, params, state = _tanh(backend, 5)
    joint, streams = JointUORO(2), Streams(JointUORO(2), 3)
    states = backend.collect([backend.combine((scale, state)) for scale in (1.0, 0.5, -1.0)])
    together = streams.init(dynamics, params, states)
    alone = [joint.init(dynamics, params, entry(backend, states, b)) for b in range(3)]
    step_all, step_one = (
        backend.compile(partial(each.step, dynamics)) for each in (streams, joint)
    )
    for number in range(4):
        items = entries(backend, make_items(3, seed=number), 3)
        key = backend.fold(backend.key(1), number)
        drawn = streams.draw(partial(backend.random, key), states)
        stacked = backend.collect(items)
        together, following, estimate = step_all(params, together, states, stacked, drawn)
        gradients = []
        for b in range(3):
            alone[b], _, each = step_one(
                params,
                alone[b],
                entry(backend, states, b),
                items[b],
                entry(backend, drawn, b),
            )
            gradients.append(each.gradient)
            kept = entry(backend, together, b)
            pairs = zip(_pairs(backend, kept, 2), _pairs(backend, alone[b], 2), strict=True)
            for got, wanted in pairs:
                np.testing.assert_allclose(got, wanted, atol=1e-9 * np.abs(wanted).max())
        mean = backend.combine(*((1 / 3, gradient) for gradient in gradients))
        assert relative(backend, estimate.gradient, mean) < 1e-12
        states = following
