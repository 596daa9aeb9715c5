"""The task of recall: a cue, distractors, and a question."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from uoro import Backend
from uoro.errors import SettingError
from uoro.models import GRU, SymbolModel
from uoro.models.answers import AnswerModel
from uoro.tasks import TASKS, Network, Recall, make_task, recall


def test_each_question_is_answered_by_the_cue_before_it() -> None:
    items = Recall(3, 6).stream(1).take(20_000)
    symbols, targets = items["symbol"], items["target"]
    cues, asked = np.flatnonzero(symbols < 2), np.flatnonzero(symbols >= 4)
    assert cues[0] == 0
    assert set(targets[asked]) == {-1, 1}
    assert not np.delete(targets, asked).any()
    count = len(asked)
    delays = asked - cues[:count]
    assert set(delays) == {3, 4, 5, 6}
    np.testing.assert_array_equal(targets[asked], 2 * symbols[cues[:count]] - 1)
    np.testing.assert_array_equal(cues[1:], asked[: len(cues) - 1] + 1)
    assert abs(len(symbols) / count - Recall(3, 6).steps) < 0.05


def test_nothing_but_the_cue_tells_the_answer() -> None:
    items = Recall(3, 6).stream(1).take(50_000)
    symbols, targets = items["symbol"], items["target"]
    asked = np.flatnonzero(targets)
    asked = asked[asked > 10]
    told = [abs(np.corrcoef(symbols[asked - ago] % 2, targets[asked])[0, 1]) for ago in range(3)]
    assert max(told) < 0.05
    assert abs(targets[asked].mean()) < 0.05


def test_seeds_give_streams_of_their_own() -> None:
    first, again, other = (Recall().stream(seed).take(500) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["symbol"], again["symbol"])
    assert (first["symbol"] != other["symbol"]).any()


def test_delays_out_of_range_are_refused() -> None:
    for low, high in ((0, 3), (5, 4), (1, 100_001)):
        with pytest.raises(SettingError, match="Recall"):
            Recall(low, high)
    with pytest.raises(SettingError, match="a SymbolModel"):
        AnswerModel(GRU(3))  # type: ignore[arg-type]  # on purpose


def test_the_loss_of_saying_nothing_is_one() -> None:
    """An answer of zero to each question has a squared error of 1, in the unit of the task."""
    task = recall(2, 4, network=Network(units=3))
    params, state = task.model.init(np.random.default_rng(0))
    params["readout"] = {name: 0.0 * leaf for name, leaf in params["readout"].items()}
    items, losses = task.stream(0).take(8000), []
    for symbol, target in zip(items["symbol"], items["target"], strict=True):
        one = {"symbol": symbol, "target": target}
        state, loss = task.model.transition(np, params, state, one)
        losses.append(loss)
    assert set(losses) == {0.0, 1.0}
    assert np.mean(losses) * task.loss_scale == pytest.approx(1.0, abs=0.05)


def test_the_model_is_the_same_on_every_backend(backend: Backend) -> None:
    model = AnswerModel(SymbolModel((GRU(3),), 6))
    params, state = model.init(np.random.default_rng(0))
    assert params["readout"]["map"].shape == (1, 3)
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    for target in (0, 1, -1):
        item: Any = {"symbol": np.int32(4), "target": np.int32(target)}
        _, expected = model.transition(np, params, state, item)
        outcome = dynamics.forward(*map(backend.from_host, (params, state, item)))
        assert float(outcome.output) == pytest.approx(float(expected), rel=1e-14)


def test_the_catalogue_builds_the_task() -> None:
    task = make_task("test", "recall", {"low": 1, "high": 2}, Network(units=5))
    assert (task.settings["low"], task.settings["units"]) == (1, 5)
    assert TASKS["recall"].optimizer == "adam"
