"""A pair that diverges is reported, and one that fluctuates is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uoro import SGD, UORO, Learner, load_backend
from uoro.monitors import Shadowed
from uoro.training import read_metrics
from uoro.training.alarm import PairAlarm, influence_norm
from uoro.training.run import Run
from uoro.training.settings import Settings


def test_a_norm_that_wanders_is_none_to_worry_about() -> None:
    generator = np.random.default_rng(0)
    alarm = PairAlarm()
    for norm in np.exp(generator.normal(size=200)):
        assert alarm.look(float(norm)) is None


def test_a_norm_that_grows_by_orders_of_magnitude_is() -> None:
    alarm = PairAlarm()
    factors = [alarm.look(10.0**power) for power in range(20)]
    first = next(i for i, factor in enumerate(factors) if factor is not None)
    assert 3 < first < 12
    assert alarm.look(float("inf")) == float("inf")


def test_no_norm_is_no_alarm() -> None:
    alarm = PairAlarm()
    assert [alarm.look(norm) for norm in (0.0, 0.0, 0.0, 0.0, 1.0)] == [None] * 5


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("shadowed", [False, True])
def test_the_norm_is_that_of_the_pair_within_any_shadow(rank: int, shadowed: bool) -> None:
    backend = load_backend("autograd")
    xp = backend.xp
    estimator: Any = UORO(rank=rank)
    if shadowed:
        estimator = Shadowed(estimator, UORO())
    dynamics = backend.dynamics(lambda w, s, x: (xp.tanh(w @ s + x), xp.sum(s**2)))
    learner = Learner(dynamics, estimator, SGD(0.01), 0.4 * np.eye(3), np.zeros(3))
    learner.run([np.array(0.3)] * 5)
    pair = learner.carry.estimator if shadowed else learner.carry
    wanted = np.linalg.norm(pair.tangent) * np.linalg.norm(pair.cotangent)
    assert influence_norm(learner.export().arrays) == pytest.approx(float(wanted))
    assert influence_norm({"params": np.ones(3), "state/tangent": np.ones(3)}) is None


def test_a_run_whose_state_does_not_forget_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state grows by a tenth a step, and with it what it owes to the parameter."""
    (tmp_path / "unstable.py").write_text(
        "import itertools, numpy as np\n"
        "from uoro import load_backend\n"
        "def factory(growth=1.1):\n"
        "    backend = load_backend('autograd')\n"
        "    step = lambda w, s, x: (growth * s + 1e-9 * w, (1e-9 * s * w).sum())\n"
        "    stream = itertools.repeat(np.array(1.0))\n"
        "    return backend.dynamics(step), np.array(0.5), np.zeros(2), stream\n"
    )
    monkeypatch.chdir(tmp_path)
    for growth, warned in ((1.1, True), (0.9, False)):
        table = {
            "task": "unstable.py:factory",
            "options": {"growth": growth},
            "estimator": "uoro",
            "dtype": "as made",
            "optimizer": {"name": "sgd", "learning_rate": 1e-12},
            "steps": 200,
            "checkpoints": {"every": 20},
        }
        caplog.clear()
        ended = Run(Settings.of(table), tmp_path / f"run{growth}").go()
        assert ended.state == "done"
        assert ("the pair diverges" in caplog.text) is warned, caplog.text
        lines = read_metrics(tmp_path / f"run{growth}" / "metrics.jsonl")
        assert any(line.get("event") == "pair diverges" for line in lines) is warned
        if warned:
            assert "spectral radius of the transition is about 1.1" in caplog.text
