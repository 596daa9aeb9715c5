"""The task of a sensor: what its stream holds, and what can be predicted of it."""

from __future__ import annotations

import numpy as np
import pytest

from uoro import SettingError
from uoro.tasks import Network, Sensor, make_task
from uoro.tasks.sensor import BLOCK, GAIN


def test_a_reading_is_caused_by_the_drive_before_it_with_the_sign_of_a_regime() -> None:
    items = Sensor(regime=300, noise=0.0).stream(3).take(BLOCK)
    drive, target = items["inputs"][:, 1], items["target"][:, 0]
    signs = target / (GAIN * drive)
    np.testing.assert_allclose(np.abs(signs), 1.0, rtol=1e-4)
    lengths = np.diff(np.flatnonzero(np.diff(np.sign(signs))))
    assert lengths.min() >= 150
    assert lengths.max() <= 450
    np.testing.assert_array_equal(items["inputs"][1:, 0], target[:-1])
    assert abs(drive.var() - 1.0) < 0.3


def test_noise_is_the_smallest_error_and_no_sign_shows_it_at_once() -> None:
    items = Sensor(noise=0.3).stream(0).take(20 * BLOCK)
    drive, target = items["inputs"][:, 1], items["target"][:, 0]
    known = np.minimum((target - GAIN * drive) ** 2, (target + GAIN * drive) ** 2).mean()
    assert known < 0.09  # The nearer sign is a little too good.
    assert abs(np.corrcoef(drive, target)[0, 1]) < 0.1
    assert make_task("test", "sensor", {"noise": 0.3}).entropy_rate == pytest.approx(0.09)


def test_the_stream_is_the_same_however_it_is_cut_and_from_wherever_it_goes_on() -> None:
    whole = Sensor().stream(1).take(2 * BLOCK + 10)
    stream = Sensor().stream(1)
    parts = [stream.take(count) for count in (1, BLOCK, 7)]
    place = stream.position
    parts.append(stream.take(BLOCK + 2))
    for name, column in whole.items():
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(joined, column)
    again = Sensor().stream(1)
    again.seek(place)
    np.testing.assert_array_equal(again.take(5)["target"], parts[-1]["target"][:5])
    assert next(again)["inputs"].shape == (2,)


@pytest.mark.parametrize("given", [{"regime": 1}, {"regime": 10**6}, {"noise": -1.0}])
def test_numbers_out_of_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(given))):
        Sensor(**given)  # type: ignore[arg-type]


def test_the_model_is_that_of_a_series_without_its_prediction() -> None:
    task = make_task("test", "sensor", {}, Network(units=4))
    params, state = task.model.init(np.random.default_rng(0))
    item = task.example()
    after, loss = task.model.transition(np, params, state, item)
    assert loss == pytest.approx(item["target"][0] ** 2)  # The readout begins at zero.
    assert after.keys() == state.keys()
