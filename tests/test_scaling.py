"""Random signs scaled by the rows of ∂F/∂θ: still unbiased, and less noisy where rows differ."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import TINY_MODELS, build, entries, jiggle, make_items
from uoro_conformance import (
    System,
    check_chain,
    check_gradient_path,
    check_mean_over_all_signs,
    check_parity,
    check_streams,
)
from uoro_conformance.cells import KINDS

from uoro import RTRL, SGD, UORO, Backend, JointUORO, Learner, Streams, load_backend
from uoro.algebra import basis, coordinates, entry, norm, shaped, size
from uoro.errors import SettingError, StructureError
from uoro.estimators.scaling import FLAT, row_factors
from uoro.estimators.spelling import parse_estimator
from uoro.models import GRU, SymbolModel

ALPHABET = 3


def _uneven(backend: Backend) -> Any:
    """Give a function that scales coordinates by 1, 3 or 9, in turn by number and by step."""

    def scaling(params: Any, state: Any, inputs: Any) -> Any:
        def factors(leaf: Any) -> Any:
            count = int(np.prod(leaf.shape))
            return backend.from_host(3.0 ** (np.arange(count) % 3).reshape(tuple(leaf.shape)))

        return backend.map(lambda leaf: factors(leaf) + 0.5 * leaf**2, state)

    return scaling


# Unbiased.


@pytest.mark.parametrize(("make", "scaling"), [(UORO, "function"), (JointUORO, "rows")])
def test_mean_over_all_signs_equals_rtrl(backend: Backend, make: Any, scaling: Any) -> None:
    dynamics, params, state = build(backend, TINY_MODELS["gru"])
    host = backend.to_host(params)
    moved = [backend.from_host(jiggle(host, np.random.default_rng(step))) for step in range(2)]
    scaling = _uneven(backend) if scaling == "function" else scaling
    system = dynamics, moved, state, entries(backend, make_items(2), 2)
    estimator = make(1, scaling=scaling)
    check_mean_over_all_signs(*system, estimator=estimator, tolerance=1e-10).require()


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_is_unbiased_at_any_memory_on_systems_of_each_kind(kind: str) -> None:
    backend = load_backend("torch")
    for n, estimator in (
        (3, UORO(scaling="rows")),
        (2, UORO(rank=2, scaling="rows")),
        (3, JointUORO(2, scaling="rows")),
        (1, JointUORO(2, scaling="rows")),
    ):
        trial = System(kind, n, 2, seed=3).build(backend)
        check_chain(trial, estimator).require()
        check_gradient_path(trial, estimator).require()


def test_it_is_unbiased_with_a_carry_of_two(backend: Backend) -> None:
    trial = System("gru", 2, 4, seed=1).build(backend).unrolled(2)
    check_chain(trial, UORO(scaling="rows")).require()


@pytest.mark.parametrize("make", [UORO, JointUORO])
def test_numbers_are_those_of_a_dense_reference(backend: Backend, make: Any) -> None:
    trial = System("gru", 3, 3, seed=2).build(backend)
    for scaling in (_uneven(backend), "rows"):
        check_parity(trial, make(2, scaling=scaling)).require()


def test_joint_pairs_of_the_rank_of_the_state_are_rtrl(backend: Backend) -> None:
    dynamics, params, state = build(backend, TINY_MODELS["gru"])
    n = size(backend, state)
    joint, exact = JointUORO(n, scaling="rows"), RTRL()
    carries = [each.init(dynamics, params, state) for each in (joint, exact)]
    generator = np.random.default_rng(0)
    for item in entries(backend, make_items(20), 20):
        signs = backend.from_host(generator.choice([-1.0, 1.0], (2, n)))
        drawn = shaped(backend, signs, state)
        carries[0], _, ours = joint.step(dynamics, params, carries[0], state, item, drawn)
        carries[1], state, theirs = exact.step(dynamics, params, carries[1], state, item, None)
        gap = backend.combine((1.0, ours.gradient), (-1.0, theirs.gradient))
        assert float(norm(backend, gap)) < 1e-12 * float(norm(backend, theirs.gradient))


# What the factors are.


def _rows(backend: Backend, gains: Any) -> Any:
    """Make dynamics whose row i of ∂F/∂θ is as long as gain i, whatever else."""

    def transition(params: Any, state: Any, x: Any) -> Any:
        next_state = 0.5 * state + gains * (params["w"] @ x)
        return next_state, (next_state**2).sum()

    generator = np.random.default_rng(0)
    numbers = {"w": generator.normal(size=(4, 3))}, np.zeros(4), generator.normal(size=3)
    return backend.dynamics(transition), *map(backend.from_host, numbers)


def test_factors_are_roots_of_the_norms_of_rows(backend: Backend) -> None:
    gains = np.array([1.0, 4.0, 0.25, 0.0])
    system = _rows(backend, backend.from_host(gains))
    (factors,) = map(np.asarray, backend.to_host(row_factors(*system)))
    np.testing.assert_allclose((factors[:3] / factors[0]) ** 2, gains[:3], rtol=1e-9)
    assert factors[3] == pytest.approx(FLAT**0.5)


def test_where_params_move_nothing_all_factors_are_the_same(backend: Backend) -> None:
    system = _rows(backend, backend.from_host(np.zeros(4)))
    (factors,) = map(np.asarray, backend.to_host(row_factors(*system)))
    np.testing.assert_array_equal(factors, factors[0])
    assert factors[0] > 0


def test_a_few_probes_come_close_to_the_norms_of_a_gated_network(backend: Backend) -> None:
    model = SymbolModel((GRU(16),), ALPHABET)
    params, state = (backend.from_host(tree) for tree in model.init(np.random.default_rng(0)))
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    item = next(iter(entries(backend, make_items(1), 1)))
    drawn = np.random.default_rng(0).normal(size=(1, 16))
    state = entry(backend, shaped(backend, backend.from_host(drawn), state), 0)
    _, pullback = dynamics.vjp(params, state, item)
    rows = backend.vmap(lambda row: pullback(row, None)[0])(basis(backend, state))
    norms = (np.asarray(backend.to_host(coordinates(backend, rows))) ** 2).sum(1) ** 0.5
    (factors,) = map(np.asarray, backend.to_host(row_factors(dynamics, params, state, item)))
    squares = factors**2
    assert np.corrcoef(np.log(squares), np.log(norms))[0, 1] > 0.9
    assert np.std(np.log(squares / norms)) < 0.4 * np.std(np.log(norms))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_keeps_dtypes_and_stays_finite_in_low_precision(backend: Backend, dtype: Any) -> None:
    if dtype in backend.lacks:
        pytest.skip(f"{backend.name} has no {dtype}")
    model = SymbolModel((GRU(8),), ALPHABET)
    numbers = model.init(np.random.default_rng(0))
    params, state = (backend.from_host(tree, dtype=dtype) for tree in numbers)
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    estimator = JointUORO(2, scaling="rows")
    learner = Learner(dynamics, estimator, SGD(0.01), params, state)
    learner.run(entries(backend, make_items(20), 20))
    for tree in (learner.carry.tangent, learner.params):
        for _, leaf in backend.named_leaves(tree):
            assert str(leaf.dtype).endswith(dtype)
            wide = backend.to_host(backend.from_host(leaf, dtype="float32"))
            assert np.isfinite(np.asarray(wide)).all()


# Streams, and what is refused.


def test_streams_are_each_scaled_as_they_are_alone(backend: Backend) -> None:
    trial = System("gru", 2, 3, seed=4).build(backend)
    check_streams(trial, Streams(JointUORO(2, scaling="rows"), 2)).require()


@pytest.mark.parametrize("wrong", ["columns", 2.0, [1.0]])
def test_a_scaling_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(
        SettingError, match=r"UORO\(scaling=.*expected None, 'rows', or a func.* got"
    ):
        UORO(scaling=wrong)


def test_a_function_that_gives_another_shape_is_refused(backend: Backend) -> None:
    dynamics, params, state = build(backend, TINY_MODELS["rnn"])
    estimator = UORO(scaling=lambda params, state, inputs: params)
    learner = Learner(dynamics, estimator, SGD(0.1), params, state)
    with pytest.raises(StructureError, match=r"scaling=function.*a positive number for each"):
        learner.run(entries(backend, make_items(1), 1))


def test_it_has_a_name() -> None:
    for name in ("joint:2,scaling=rows", "uoro:rank=2,reduction=optimal,scaling=rows"):
        assert parse_estimator(name).estimator == JointUORO(2, scaling="rows")
    assert parse_estimator("uoro:scaling=rows").estimator == UORO(scaling="rows")
    with pytest.raises(SettingError, match="scaling"):
        parse_estimator("uoro:scaling=columns")
