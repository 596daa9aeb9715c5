"""``uoro check``: a stranger's model, right or wrong in one way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from uoro.cli.app import app
from uoro.errors import SettingError, UnknownNameError
from uoro.training.factory import load_factory

MODELS = """
import autograd.numpy as np
import jax
import jax.numpy as jnp
import torch
from torch import nn
from uoro import load_backend

numbers = np.random.RandomState(0)
W = numbers.randn(5, 5) / 3
items = [numbers.randn(5) for _ in range(6)]

def right():
    def transition(params, state, x):
        state = np.tanh(params["W"] @ state + x)
        return state, np.sum((params["C"] * state) ** 2)
    dynamics = load_backend("autograd").dynamics(transition)
    return dynamics, {"W": W, "C": np.ones(5)}, np.zeros(5), iter(items)

def module():
    torch.manual_seed(0)
    model = nn.LSTMCell(5, 40)
    def transition(params, state, x):
        state = torch.func.functional_call(model, params, (x, state))
        return tuple(state), state[0].square().sum()
    params = {name: p.detach() for name, p in model.named_parameters()}
    state = torch.zeros(40), torch.zeros(40)
    dynamics = load_backend("torch").dynamics(transition)
    return dynamics, params, state, [torch.randn(5) for _ in range(3)]

def dropout():
    def transition(w, state, x):
        state = torch.tanh(w @ nn.functional.dropout(state, 0.5) + x)
        return state, state.sum()
    dynamics = load_backend("torch").dynamics(transition)
    return dynamics, torch.tensor(W), torch.ones(5).double(), [torch.ones(5).double()]

def no_grad():
    def transition(w, state, x):
        with torch.no_grad():
            state = 0.5 * state
        state = torch.tanh(w @ state + x)
        return state, state.sum()
    dynamics = load_backend("torch").dynamics(transition)
    return dynamics, torch.tensor(W), torch.ones(5).double(), [torch.ones(5).double()]

def in_place():
    def transition(w, state, x):
        following = torch.tanh(w @ state.clone() + x)
        with torch.no_grad():
            state.mul_(0.9)
        return following, following.sum()
    dynamics = load_backend("torch").dynamics(transition)
    return dynamics, torch.tensor(W), torch.ones(5).double(), [torch.ones(5).double()]

def custom_vjp():
    @jax.custom_vjp
    def squash(x):
        return jnp.tanh(x)
    squash.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (1.01 * g * (1 - jnp.tanh(x) ** 2),))
    def transition(w, state, x):
        state = squash(w @ state + x)
        return state, state.sum()
    dynamics = load_backend("jax").dynamics(transition)
    return dynamics, jnp.asarray(W), jnp.ones(5), [jnp.ones(5)]

def always_float64():
    # As in a program that has set the flag for good.
    jax.config.update("jax_enable_x64", True)
    def transition(w, state, x):
        state = jnp.tanh(w @ state + x)
        return state, state.sum()
    dynamics = load_backend("jax").dynamics(transition)
    return dynamics, jnp.asarray(W), jnp.ones(5), [jnp.ones(5)]

def raises():
    def transition(w, state, x):
        return state[:2], state.sum()
    return load_backend("autograd").dynamics(transition), W, np.zeros(5), items

def large():
    # Many state coordinates; few params, so that the influence needs little memory.
    def transition(w, state, x):
        state = torch.tanh(w[0] @ (w[1].T @ state) + x)
        return state, state.square().sum()
    torch.manual_seed(0)
    w = torch.randn(2, 300, 4, dtype=torch.float64) / 7
    state, items = torch.zeros(300).double(), [torch.randn(300).double() for _ in range(2)]
    return load_backend("torch").dynamics(transition), w, state, items

class Squash(torch.autograd.Function):
    # In the old style, which torch.func refuses.

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y**2)

def unmappable():
    def transition(w, state, x):
        state = Squash.apply(w @ state + x)
        return state, state.square().sum()
    dynamics = load_backend("torch").dynamics(transition)
    return dynamics, torch.tensor(W), torch.ones(5).double(), [torch.ones(5).double()] * 3

def nothing():
    return right()[:3] + ([],)

def three():
    return right()[:3]

def transition_only():
    return (lambda *a: a,) + right()[1:]

number = 3
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "strangers_model.py").write_text(MODELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(factory: str, *options: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as ended:
            app(["check", f"strangers_model:{factory}", "--report", "r.json", *options])
        return ended.value.code, json.loads(Path("r.json").read_text(encoding="utf-8"))  # type: ignore[return-value]  # an int

    return run


def _verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["verdict"] for entry in report["findings"]}


def test_a_right_model_passes_and_its_variance_is_told(
    check: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report = check("right", "--seed", "2")
    assert status == 0
    assert set(_verdicts(report).values()) == {"holds"}
    assert {"derivatives/true", "exact/chain", "exact/gradient"} <= set(_verdicts(report))
    printed = capsys.readouterr().out
    assert "Relative variance of UORO's gradient at step 4:" in printed
    assert "5 state coordinates, 30 parameters." in printed
    assert "seed 2" in printed
    assert report["settings"]["dtype"] == "float64"


def test_a_torch_module_passes_in_its_own_dtype_and_in_float64(check: Any) -> None:
    status, report = check("module")
    assert status == 0, _verdicts(report)
    assert report["settings"]["dtype"] == "float32"
    assert "In float32" in report["notes"][-1]
    status, report = check("module", "--dtype", "float64")
    assert status == 0, _verdicts(report)
    assert report["settings"]["dtype"] == "float64"


def test_dropout_is_unverifiable(check: Any) -> None:
    status, report = check("dropout")
    assert status == 3
    assert _verdicts(report)["derivatives/pure"] == "unverifiable"
    assert "randomness" in str(report["findings"])
    assert _verdicts(report)["exact/chain"] == "not checked"


def test_a_factory_keeps_its_name(
    check: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`:factory:` is also how an emoji is spelled."""
    source = tmp_path / "model.py"
    source.write_text("from strangers_model import right as factory\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        app(["check", "model.py:factory"])
    assert "model.py:factory: of " in capsys.readouterr().out


def test_no_grad_is_a_wrong_derivative_of_the_state(check: Any) -> None:
    status, report = check("no_grad")
    assert status == 1
    assert _verdicts(report)["derivatives/true"] == "broken"
    assert "of the next state by 'state'" in str(report["findings"])
    assert "detached, or computed where gradients are off?" in str(report["findings"])


def test_a_state_changed_in_place_is_named(check: Any) -> None:
    status, report = check("in_place")
    assert status == 1
    assert _verdicts(report)["derivatives/pure"] == "broken"
    assert "The state changed" in str(report["findings"])


def test_a_custom_vjp_off_by_a_percent_is_refused_for_that(check: Any) -> None:
    status, report = check("custom_vjp", "--dtype", "float64")
    assert status == 1
    found = {entry["id"]: entry for entry in report["findings"]}
    assert found["derivatives/true"]["verdict"] == "broken"
    assert "off by 1.0" in found["derivatives/true"]["evidence"]


def test_a_program_that_always_uses_float64_is_checked_in_it(check: Any) -> None:
    config: Any = jax.config
    before = config.jax_enable_x64
    try:
        status, report = check("always_float64")
    finally:
        config.update("jax_enable_x64", before)
    assert status == 0, _verdicts(report)
    assert report["settings"]["dtype"] == "float64"


def test_a_model_that_does_not_run_is_a_finding_and_no_traceback(check: Any) -> None:
    status, report = check("raises")
    assert status == 1
    assert _verdicts(report)["forward"] == "broken"
    assert "StructureError" in str(report["findings"])


def test_a_large_model_is_checked_on_projections_and_that_is_said(check: Any) -> None:
    status, report = check("large")
    assert status == 0, _verdicts(report)
    assert _verdicts(report)["exact/chain"] == "holds"
    assert _verdicts(report)["exact/whole influence"] == "not checked"
    assert "4 random projections" in str(report["findings"])


def test_a_model_that_cannot_be_mapped_is_checked_one_by_one(check: Any) -> None:
    status, report = check("unmappable")
    assert status == 0, report
    assert _verdicts(report)["exact/chain"] == "holds"
    assert any("cannot map over this model" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("strangers_model:three", "from the factory, got 3 elements"),
        (
            "strangers_model:transition_only",
            "expected dynamics as the first element, got a function",
        ),
        ("strangers_model:nothing", "expected 1 to 4 items, got none"),
        ("strangers_model:number", "there is no function 'number'"),
        ("strangers_model:rihgt", "Did you mean 'right'"),
        ("strangers_model", "expected 'package.module:factory'"),
        ("no_such_module:f", "'no_such_module' cannot be found"),
        ("no_such_file.py:f", "there is no file 'no_such_file.py'"),
        ("broken_module:f", "raised ValueError: on purpose"),
    ],
)
def test_what_cannot_be_checked_says_so(check: Any, factory: str, message: str) -> None:
    Path("broken_module.py").write_text("raise ValueError('on purpose')\n", encoding="utf-8")
    with pytest.raises((SettingError, UnknownNameError, ValueError), match=message.split("(")[0]):
        app(["check", factory], standalone_mode=False)


def test_a_file_will_do_for_a_module(check: Any) -> None:
    assert load_factory("uoro check", "strangers_model.py:right")()[2].shape == (5,)
