"""The estimator of one's own: on a model by `uoro check`, and with its memory in another dtype."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uoro_conformance import (
    GALLERY,
    check_chain,
    check_gradient_path,
    check_mean_over_all_signs,
    check_model,
    check_parity,
    check_streams,
)
from uoro_conformance.memory import memory_precision
from uoro_conformance.mutants.wrong import WRONG

from uoro import UORO, Backend, JointUORO, Streams, load_backend
from uoro.cli.app import app
from uoro.errors import SettingError, UnknownNameError
from uoro.estimators.spelling import parse_estimator

KEPT: dict[str, Any] = {
    "float32": UORO(pair_dtype="float32"),
    "bfloat16": UORO(pair_dtype="bfloat16"),
    "float16": UORO(pair_dtype="float16"),
    "float32 of joint pairs": JointUORO(2, pair_dtype="float32"),
    "float32 of two pairs": UORO(rank=2, pair_dtype="float32"),
}


@pytest.mark.parametrize("kept", KEPT)
def test_a_pair_kept_in_another_dtype_is_no_bias(backend: Backend, kept: str) -> None:
    estimator = KEPT[kept]
    if kept in backend.lacks:
        pytest.skip(f"{backend.name} has no {kept}")
    trial = GALLERY[0].build(backend)
    assert memory_precision(trial, estimator) == kept.split()[0]
    for check in (check_chain, check_gradient_path, check_parity):
        finding = check(trial, estimator)
        assert finding.verdict in ("holds", "unverifiable"), finding
        assert finding.holds or kept == "float16", finding
    check_streams(trial, Streams(estimator, 2)).require()
    if kept in ("float32", "bfloat16"):
        few = trial.params[:2], trial.state, trial.items[:2]
        check_mean_over_all_signs(trial.dynamics, *few, estimator=estimator).require()


def test_memory_in_float32_hides_no_mistake() -> None:
    """What is refused in float64 is refused with a carry in float32 too."""
    backend = load_backend("torch")
    trial = GALLERY[0].build(backend)

    class Less(UORO):
        """UORO whose tangent is a percent too short."""

        def step(self, *arguments: Any) -> Any:
            after, following, estimate = super().step(*arguments)
            shorter = backend.combine((0.99, after.tangent))
            return after._replace(tangent=shorter), following, estimate

    check_chain(trial, UORO(pair_dtype="float32")).require()
    assert check_chain(trial, Less(pair_dtype="float32")).verdict == "biased"


def _model(backend: Backend) -> tuple[Any, ...]:
    draw = np.random.RandomState(0).randn

    def transition(params: Any, state: Any, x: Any) -> Any:
        state = backend.xp.tanh(params["W"] @ state + x)
        return state, ((params["C"] @ state - 0.3) ** 2).sum()

    params = {"W": 0.4 * draw(3, 3), "C": draw(1, 3)}
    items = [draw(3) for _ in range(4)]
    return backend.dynamics(transition), params, np.zeros(3), items


@pytest.mark.parametrize(
    "spelled",
    ["uoro:rank=2", "uoro:memory=2", "joint:2", "kron:1", "rtrl", "tbptt:2", "snap"],
)
@pytest.mark.parametrize("name", ["autograd", "torch"])
def test_the_estimator_of_ones_own_is_checked_on_the_model(name: str, spelled: str) -> None:
    backend = load_backend(name)
    choice = parse_estimator(spelled)
    span = choice.span or 1
    report = check_model(*_model(backend), estimator=choice.estimator, span=span)
    assert report.exit_status == 0, [str(e.finding) for e in report.entries]
    assert {"exact/chain", "exact/declared"} & {entry.id for entry in report.entries}


def test_a_wrong_estimator_of_ones_own_is_refused() -> None:
    backend = load_backend("torch")
    by_name = {mutant.estimator.name: mutant.estimator for mutant in WRONG}
    report = check_model(*_model(backend), estimator=by_name["jvp omitted"])
    assert report.exit_status == 1
    (declared,) = (entry.finding for entry in report.entries if entry.id == "exact/declared")
    assert declared.verdict == "biased"


def test_an_estimator_that_refuses_the_model_is_unverifiable_with_its_reason() -> None:
    choice = parse_estimator("block")
    report = check_model(*_model(load_backend("autograd")), estimator=choice.estimator)
    assert report.exit_status == 3
    assert "units do not move each other" in str(report.entries[-1].finding)


def test_the_command_takes_an_estimator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (
        "import autograd.numpy as np\n"
        "from uoro import load_backend\n"
        "def factory():\n"
        "    def step(w, s, x):\n"
        "        s = np.tanh(w @ s + x)\n"
        "        return s, np.sum(s ** 2)\n"
        "    dynamics = load_backend('autograd').dynamics(step)\n"
        "    return dynamics, 0.5 * np.eye(3), np.zeros(3), [1.0, -1.0, 0.5, 0.2]\n"
    )
    (tmp_path / "own.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        app(["check", "own.py:factory", "--estimator", "joint:2"])
    assert left.value.code == 0
    assert "JointUORO(rank=2" in capsys.readouterr().out
    for wrong in ("joint", "uorro", "bptt", "uoro:memory=9"):
        with pytest.raises((SettingError, UnknownNameError)):
            app(["check", "own.py:factory", "--estimator", wrong], standalone_mode=False)


def test_each_step_of_a_trial_is_a_point() -> None:
    trial = GALLERY[0].build(load_backend("autograd"))
    assert len(trial.points) == len(trial.items)
    shorter = replace(trial, params=trial.params[:1], items=trial.items[:1])
    assert len(shorter.points) == 1
