"""Measured relative variances against those over every sequence of signs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from uoro import RTRL, UORO
from uoro.algebra import entry
from uoro.errors import SettingError
from uoro.lab.reproduce.measured_model import MeasuredModel
from uoro.lab.reproduce.noise import noise_by_estimator, noise_by_units, noise_in_time

SETTINGS: dict[str, Any] = {
    "backend": "autograd",
    "device": None,
    "dtype": "float64",
    "task": "anbn",
    "arguments": {"k": 1, "l": 3},
    "network": {"cell": "gru", "units": 2, "layers": 1},
    "seed": 3,
}
STEPS = 3


def _ignore(fraction: float) -> None:
    assert 0 <= fraction <= 1


def _over_all_signs() -> np.ndarray[Any, Any]:
    """Squared relative errors of the gradient of the third step, one for each signs so far."""
    model = MeasuredModel(SETTINGS)
    backend, dynamics = model.backend, model.dynamics
    items = [entry(backend, model.items(STEPS), i) for i in range(STEPS)]

    def flat(tree: Any) -> np.ndarray[Any, Any]:
        return np.concatenate([np.asarray(leaf).ravel() for _, leaf in backend.named_leaves(tree)])

    def last(estimator: Any, noise: list[Any]) -> np.ndarray[Any, Any]:
        state = model.state
        carry = estimator.init(dynamics, model.params, state, inputs=items[0])
        for item, drawn in zip(items, noise, strict=True):
            carry, state, estimate = estimator.step(
                dynamics, model.params, carry, state, item, drawn
            )
        return flat(estimate.gradient)

    exact = last(RTRL(), [None] * STEPS)
    found = []
    for signs in itertools.product([-1.0, 1.0], repeat=2 * (STEPS - 1)):
        rows = np.array([*signs, 1.0, 1.0]).reshape(STEPS, 2)
        estimate = last(UORO(), [{"0": {"h": row}} for row in rows])
        found.append(np.sum((estimate - exact) ** 2) / np.sum(exact**2))
    return np.array(found)


@pytest.mark.parametrize("backend", ["autograd", "torch", "jax"])
def test_noise_by_units_is_the_variance_over_all_signs(backend: str) -> None:
    exact, runs = _over_all_signs(), 200
    settings = SETTINGS | {"backend": backend, "start": 0, "steps": STEPS, "reruns": runs}
    found = noise_by_units(settings, _ignore)
    error = exact.std() / math.sqrt(runs)
    assert 0 < error < 0.2 * exact.mean()
    assert abs(found["relative_variance"] - exact.mean()) < 5 * error
    assert found["standard_error"] == pytest.approx(error, rel=0.4)
    assert found["parameters"] == 3 * 6 + 8 + 4 + 6 + 6 + 3


def test_noise_in_time_is_the_variance_over_all_signs_and_its_mean_is_right() -> None:
    exact, runs = _over_all_signs(), 400
    settings = SETTINGS | {
        "backend": "jax",
        "train_items": 0,
        "items": 250,
        "reruns": runs,
        "skipped": 1,
    }
    found = noise_in_time(settings, _ignore)
    variance, mean = np.array(found["relative_variance"]), np.array(found["mean_error"])
    assert len(variance) == len(mean) == 249
    assert abs(variance[STEPS - 2] - exact.mean()) < 5 * exact.std() / math.sqrt(runs)
    # Unbiased: the error of the mean is the variance over the number of runs.
    assert np.mean(mean / variance) * runs == pytest.approx(1.0, abs=0.35)


def test_training_changes_what_noise_in_time_sees() -> None:
    settings = SETTINGS | {"backend": "jax", "items": 250, "reruns": 3, "skipped": 1}
    before = noise_in_time(settings | {"train_items": 0}, _ignore)
    after = noise_in_time(settings | {"train_items": 300}, _ignore)
    assert before["relative_variance"] != after["relative_variance"]


@pytest.mark.parametrize("backend", ["autograd", "torch", "jax"])
def test_a_memory_as_long_as_the_window_has_no_noise_in_the_first(backend: str) -> None:
    settings = SETTINGS | {
        "backend": backend,
        "estimators": ["uoro", "uoro:rank=2", "uoro:memory=2", "uoro:memory=4"],
        "window": 4,
        "windows": 1,
        "skipped_windows": 0,
        "reruns": 60,
        "stages": [0, 20],
    }
    found = noise_by_estimator(settings, _ignore)["relative_variance"]
    for stage in range(2):
        plain = found["uoro"][stage]
        assert found["uoro:memory=4"][stage] < 1e-20 < plain
        assert found["uoro:memory=2"][stage] < plain
        assert 0.25 * plain < found["uoro:rank=2"][stage] < 0.9 * plain


def test_items_that_do_not_come_in_whole_stretches_are_refused_before_any_training() -> None:
    settings = SETTINGS | {"train_items": 10**9, "items": 251, "reruns": 3, "skipped": 1}
    with pytest.raises(SettingError, match="items: expected a multiple of 250, got 251"):
        noise_in_time(settings, _ignore)
