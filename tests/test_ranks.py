"""Suggesting a rank, by what is measured on a model."""

from __future__ import annotations

import math
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from systems import entries, make_items

from uoro import RTRL, Backend, JointUORO, load_backend, suggest_rank
from uoro.algebra import norm
from uoro.errors import SettingError, StreamError, UOROError
from uoro.estimators.spelling import parse_estimator
from uoro.models import SymbolModel, Tanh
from uoro.monitors import RankRow
from uoro.monitors.ranks import choose
from uoro.suggesting.moments import relative_noise, signal
from uoro.suggesting.subject import Subject
from uoro.suggesting.trial import Trial

UNITS = 4
STEPS = 12

pytestmark = pytest.mark.filterwarnings("ignore:suggest_rank:DeprecationWarning")


def _system(backend: Backend) -> tuple[Any, Any, Any, list[Any]]:
    model = SymbolModel((Tanh(UNITS),), 3)
    params, state = model.init(np.random.default_rng(0))
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    items = entries(backend, make_items(STEPS), STEPS)
    return dynamics, backend.from_host(params), backend.from_host(state), items


@pytest.mark.parametrize("name", ["autograd", "torch"])
def test_a_rank_of_the_number_of_coordinates_has_no_noise_and_larger_ones_are_left_out(
    name: str,
) -> None:
    report = suggest_rank(*_system(load_backend(name)), noise=1e-9, ranks=(8, UNITS, 1, 1))
    assert [row.rank for row in report.rows] == [1, UNITS]
    assert report.rows[0].noise > 1e-3 > 1e-12 > abs(report.rows[1].noise)
    assert report.rows[0].added > 0 == report.rows[1].added
    assert all(row.seconds > 0 for row in report.rows)
    assert report.rank == UNITS
    assert "Left out: 8, as rank 4 is exact" in report.outcome


def test_a_compiled_loop_is_measured_too() -> None:
    report = suggest_rank(*_system(load_backend("jax")), ranks=(2,), steps=6)
    (row,) = report.rows
    assert row.rank == report.rank == 2
    assert row.seconds > 0


def test_noise_is_what_it_is_beside_the_exact_gradient() -> None:
    backend, replicas, skip = load_backend("autograd"), 40, 3
    dynamics, params, state, items = _system(backend)
    trial = Trial(dynamics, params, state, backend.collect(items), STEPS, skip, 4, 1)
    found = {
        rank: Subject(trial, parse_estimator(f"joint:{rank}")).products(replicas, None)[0]
        for rank in (2, UNITS)
    }
    noise = relative_noise(found[2], signal(found[UNITS]))
    joint, exact = JointUORO(2), RTRL()
    carries: list[Any] = [joint.init(dynamics, params, state)] * replicas
    influence: Any = exact.init(dynamics, params, state)
    generator = np.random.default_rng(0)
    error, square = 0.0, 0.0
    for number, item in enumerate(items):
        influence, after, truth = exact.step(dynamics, params, influence, state, item, None)
        for replica in range(replicas):
            signs = {"0": {"h": generator.choice([-1.0, 1.0], (2, UNITS))}}
            carries[replica], _, estimate = joint.step(
                dynamics, params, carries[replica], state, item, signs
            )
            gap = backend.combine((1.0, estimate.gradient), (-1.0, truth.gradient))
            error += (number >= skip) * float(backend.inner(gap, gap)) / replicas
        square += (number >= skip) * float(norm(backend, truth.gradient)) ** 2
        state = after
    assert noise.error < 0.2 * noise.value
    assert noise.value == pytest.approx(error / square, abs=5 * noise.error)


def test_scaled_projections_are_measured_too() -> None:
    backend = load_backend("autograd")
    xp, gains = backend.xp, np.array([1.0, 0.01, 0.01, 0.01])

    def transition(w: Any, state: Any, x: Any) -> Any:
        after = 0.5 * state + gains * xp.tanh(w @ x)
        return after, xp.sum((after - 1.0) ** 2)

    w, items = np.eye(4), np.random.default_rng(0).normal(size=(20, 4))
    noises = [
        suggest_rank(
            backend.dynamics(transition), w, np.zeros(4), items, ranks=(1, 4), scaling=scaling
        )
        .rows[0]
        .noise
        for scaling in (None, "rows")
    ]
    assert noises[1] < 0.2 * noises[0]


def test_the_error_is_the_spread_over_replicas() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(300):
        gradients = np.array([10.0, 0.0, 0.0]) + generator.normal(size=(6, 3))
        products = (gradients @ gradients.T).tolist()
        found.append(relative_noise(products, signal(products)))
    values, errors = (np.array(column) for column in zip(*found, strict=True))
    assert values.mean() == pytest.approx(3 / 100, rel=0.15)
    assert errors.mean() == pytest.approx(values.std(), rel=0.35)


def test_a_gradient_that_is_not_told_from_zero_gives_no_number() -> None:
    products = [[1.0, 0.0, 0.1], [0.0, 1.0, -0.1], [0.1, -0.1, 1.0]]
    assert math.isnan(relative_noise(products, signal(products)).value)


ROWS = tuple(
    RankRow(rank, noise, 0.0, seconds, 0.0)
    for rank, noise, seconds in ((1, 8.0, 1e-3), (2, 3.0, 2e-3), (4, 1.0, 9e-3))
)


@pytest.mark.parametrize(
    ("noise", "seconds", "rank", "words"),
    [
        (None, None, 2, "Rank 2 has the least noise times seconds."),
        (4.0, None, 2, "Rank 2 is the smallest with a noise of 4."),
        (1.0, 9e-3, 4, "Rank 4 is the smallest with a noise of 1 within 0.009 seconds."),
        (None, 5e-3, 2, "Rank 2 has the least noise within 0.005 seconds."),
        (None, 1e-4, None, "No rank takes 0.0001 seconds or less: rank 1 takes 0.001."),
        (0.5, None, None, "No rank has a noise of 0.5: rank 4 has 1 and takes 0.009 seconds."),
        (1.0, 5e-3, None, "No rank within 0.005 seconds has a noise of 1: rank 2 has 3"),
    ],
)
def test_the_rank_is_chosen_by_noise_and_seconds(
    noise: float | None, seconds: float | None, rank: int | None, words: str
) -> None:
    found, outcome = choose(ROWS, noise, seconds)
    assert found == rank
    assert outcome.startswith(words)


def test_without_any_number_of_noise_no_rank_is_suggested() -> None:
    unknown = tuple(row._replace(noise=math.nan) for row in ROWS)
    rank, outcome = choose(unknown, None, None)
    assert rank is None
    assert "Take more steps or replicas" in outcome


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"noise": 0.0}, SettingError, "noise=0.0"),
        ({"seconds": math.inf}, SettingError, "seconds=inf"),
        ({"ranks": ()}, SettingError, r"at most 4"),
        ({"ranks": (8,)}, SettingError, r"at most 4.*rank 4 is exact"),
        ({"ranks": 4}, SettingError, "ranks: expected a list, got 4"),
        ({"ranks": (0,)}, SettingError, ">= 1"),
        ({"replicas": 2}, SettingError, "replicas=2"),
        ({"steps": 1}, SettingError, "steps=1"),
        ({"skip": -1}, SettingError, "skip=-1"),
        ({"seed": -1}, SettingError, "seed"),
        ({"scaling": 3}, SettingError, "scaling=3"),
        ({"skip": STEPS}, StreamError, "items: expected more than 12, got 12"),
        ({"items": []}, StreamError, "items: expected more than 0, got 0"),
        ({"items": 3}, StreamError, "stream"),
        ({"dynamics": None}, SettingError, "suggest_rank"),
        ({"params": 0.5}, UOROError, "suggest_rank"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    changes: dict[str, Any], error: type[UOROError], words: str
) -> None:
    names = "dynamics", "params", "state", "items"
    given = dict(zip(names, _system(load_backend("autograd")), strict=True))
    with pytest.raises(error, match=words):
        suggest_rank(**(given | changes))


def test_an_endless_stream_is_read_for_as_many_steps_as_wanted() -> None:
    dynamics, params, state, items = _system(load_backend("autograd"))
    report = suggest_rank(dynamics, params, state, repeat(items[0]), steps=9, ranks=(UNITS,))
    assert report.rank == UNITS
