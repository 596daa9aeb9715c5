"""Dynamics that break one law, and the check that says which."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch
from systems import Changed
from torch.utils.checkpoint import checkpoint
from uoro_conformance import (
    GALLERY,
    Trial,
    check_adjointness,
    check_chain,
    check_determinism,
    check_linearity,
    check_mapped,
    check_outcomes_agree,
    check_purity,
    check_truth,
)
from uoro_conformance.finding import largest
from uoro_torch import Online, opaque

from uoro import UORO, Backend, load_backend
from uoro.errors import DerivativeWarning


def _with_pullback(dynamics: Any, change: Any) -> Changed:
    def vjp(*arguments: Any) -> Any:
        outcome, pullback = dynamics.vjp(*arguments)
        return outcome, lambda *cotangents: change(*pullback(*cotangents))

    return Changed(dynamics, vjp=vjp)


def test_a_wrong_block_of_params_is_seen_by_differences_alone(backend: Backend) -> None:
    """A factor on one leaf leaves jvp and vjp adjoint, since the jvp is in the state."""
    dynamics, *point = GALLERY[0].build(backend).first
    broken = _with_pullback(
        dynamics, lambda params, state: ({**params, "b": 1.01 * params["b"]}, state)
    )
    assert check_adjointness(broken, *point).holds
    assert check_linearity(broken, *point).holds
    finding = check_truth(broken, *point)
    assert finding.verdict == "broken"
    assert "params/b" in finding.evidence


LEAF_MISTAKES: dict[str, Any] = {
    "a percent too large": lambda leaf: 1.01 * leaf,
    "of the wrong sign": lambda leaf: -leaf,
    "missing": lambda leaf: 0.0 * leaf,
}


@pytest.mark.parametrize("mistake", LEAF_MISTAKES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_leaf_of_any_system_may_be_wrong(dtype: str, mistake: str) -> None:
    """Scalars among them, whose random direction is often against the gradient."""
    backend = load_backend("autograd")
    for system in GALLERY:
        dynamics, *point = system.build(backend, dtype).first
        check_truth(dynamics, *point).require()
        names = [name for tree in point[:2] for name, _ in backend.named_leaves(tree)]
        for wrong in range(len(names)):

            def change(params: Any, state: Any, wrong: int = wrong) -> Any:
                numbers = iter(range(100))

                def leaf(x: Any) -> Any:
                    return LEAF_MISTAKES[mistake](x) if next(numbers) == wrong else x

                return backend.map(leaf, (params, state))

            finding = check_truth(_with_pullback(dynamics, change), *point)
            assert finding.verdict == "broken", (system, names[wrong], finding)


def test_a_large_loss_does_not_hide_a_wrong_derivative_of_the_state() -> None:
    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        following, loss = inner(params, state, inputs)
        return following.detach(), 1e6 + loss

    trial = _torch_trial(transition)
    assert check_truth(*trial.first).verdict == "broken"


def test_kinks_and_steep_places_are_not_called_wrong() -> None:
    """ReLU, and LayerNorm of nearly nothing, in float32: right, and hard to difference."""
    backend, count = load_backend("torch"), 0
    for seed in range(10):
        torch.manual_seed(seed)
        cell, norm = torch.nn.RNNCell(8, 32, nonlinearity="relu"), torch.nn.LayerNorm(32)
        both = torch.nn.ModuleDict({"cell": cell, "norm": norm})
        params = {name: p.detach() for name, p in both.named_parameters()}

        def relu(params: Any, state: Any, x: Any, cell: Any = cell) -> Any:
            own = {k.removeprefix("cell."): v for k, v in params.items() if "cell." in k}
            state = torch.func.functional_call(cell, own, (x, state))
            return state, state.square().sum()

        def layer_norm(params: Any, state: Any, x: Any) -> Any:
            pre = params["cell.weight_hh"] @ state + 0.01 * params["cell.weight_ih"] @ x
            shape = params["norm.weight"], params["norm.bias"]
            state = torch.tanh(torch.nn.functional.layer_norm(pre, (32,), *shape))
            return state, (state - 0.5).square().sum()

        for transition in (relu, layer_norm):
            finding = check_truth(
                backend.dynamics(transition, check=False),
                params,
                torch.zeros(32),
                torch.randn(8),
                seed=seed,
            )
            assert finding.verdict != "broken", finding
            count += finding.holds
    assert count >= 18, "and seldom left open"


def test_a_backward_pass_that_rounds_large_cotangents_is_not_called_wrong() -> None:
    """The gradient of PyTorch's matrix exponential; clipping at 1e5 is seen beside it."""
    backend = load_backend("torch")
    params = {"A": torch.sin(torch.arange(16.0).double() ** 2).reshape(4, 4)}

    def orthogonal(params: Any, state: Any, x: Any) -> Any:
        state = torch.tanh(torch.matrix_exp(params["A"] - params["A"].T) @ state + x)
        return state, state.sum()

    dynamics = backend.dynamics(orthogonal)
    point = params, torch.ones(4).double(), torch.arange(4.0).double()
    assert check_linearity(dynamics, *point).holds

    def vjp(*arguments: Any) -> Any:
        outcome, pullback = dynamics.vjp(*arguments)

        def clipped(state: Any, loss: Any) -> Any:
            return pullback(state if state is None else state.clamp(-1e5, 1e5), loss)

        return outcome, clipped

    assert check_linearity(Changed(dynamics, vjp=vjp), *point).verdict == "broken"


def test_a_pullback_of_the_loss_alone_must_agree_with_the_full_one(backend: Backend) -> None:
    dynamics, *point = GALLERY[0].build(backend).first

    def vjp(*arguments: Any) -> Any:
        outcome, pullback = dynamics.vjp(*arguments)

        def doubled(state: Any, loss: Any) -> Any:
            by_params, by_state = pullback(state, loss)
            return by_params, backend.combine((2.0 if state is None else 1.0, by_state))

        return outcome, doubled

    finding = check_linearity(Changed(dynamics, vjp=vjp), *point)
    assert finding.verdict == "broken"
    assert "without the state" in finding.evidence


def test_an_outcome_that_is_not_finite_proves_nothing() -> None:
    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        following, loss = inner(params, state, inputs)
        return following, loss / 0.0

    trial = _torch_trial(transition)
    for check in (check_truth, check_outcomes_agree):
        assert check(*trial.first).verdict == "unverifiable"


def test_a_jvp_off_by_a_percent_is_not_adjoint(backend: Backend) -> None:
    dynamics, *point = GALLERY[0].build(backend).first

    def jvp(*arguments: Any) -> Any:
        pushed, rate = dynamics.jvp(*arguments)
        return backend.combine((1.01, pushed)), rate

    assert check_adjointness(Changed(dynamics, jvp=jvp), *point).verdict == "broken"


class _Checkpointed(torch.nn.Module):
    """A cell that PyTorch differentiates twice in forward mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.GRUCell(2, 3).double()

    def forward(self, input: Any, state: Any) -> Any:
        state = checkpoint(self.cell, input, state, use_reentrant=False)
        return state, state


def test_a_map_that_loses_the_tangent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant leaves forward mode off inside an opaque call, as PyTorch does."""

    def model() -> Any:
        state = torch.zeros(3, dtype=torch.float64)
        return Online.for_module(
            _Checkpointed(), torch.nn.functional.mse_loss, state, estimator=UORO()
        )

    one, state = torch.ones(2, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    item, online = (one, state, torch.tensor(0)), model()
    online.dynamics.probe(online.params, state, item)
    assert online.dynamics.route == "forward mode"
    assert check_mapped(online.dynamics, online.params, state, item).holds
    monkeypatch.setattr(opaque, "_forward_mode", lambda on: nullcontext())
    finding = check_mapped(online.dynamics, online.params, state, item)
    assert finding.verdict == "broken"
    assert "jvp of pair" in finding.evidence
    online = model()
    with pytest.warns(DerivativeWarning, match="JVPs mapped over pairs are off by 1"):
        online.dynamics.probe(online.params, state, item)


def test_nan_is_broken_and_never_passes(backend: Backend) -> None:
    dynamics, *point = GALLERY[0].build(backend).first

    def jvp(*arguments: Any) -> Any:
        pushed, rate = dynamics.jvp(*arguments)
        return backend.combine((math.nan, pushed)), rate

    broken = Changed(dynamics, jvp=jvp)
    for check in (check_adjointness, check_linearity):
        assert check(broken, *point).verdict == "broken"
    trial = replace(GALLERY[0].build(backend), dynamics=broken)
    assert check_chain(trial, UORO()).verdict == "unverifiable"
    assert largest([0.0, math.nan, 1.0]) == math.inf


def test_a_pullback_that_is_not_linear_is_refused(backend: Backend) -> None:
    dynamics, *point = GALLERY[0].build(backend).first
    broken = _with_pullback(dynamics, lambda params, state: (backend.map(abs, params), state))
    assert check_linearity(broken, *point).verdict == "broken"


def test_a_forward_that_differs_from_vjp_is_refused(backend: Backend) -> None:
    dynamics, *point = GALLERY[0].build(backend).first

    def forward(*arguments: Any) -> Any:
        outcome = dynamics.forward(*arguments)
        return outcome._replace(output=outcome.loss * 1.0001)

    assert check_outcomes_agree(Changed(dynamics, forward=forward), *point).verdict == "broken"


def _torch_trial(transition: Any) -> Trial:
    backend = load_backend("torch")
    trial = GALLERY[0].build(backend)
    inner = partial(_tanh, backend.xp)
    return replace(trial, dynamics=backend.dynamics(lambda *a: transition(inner, *a), check=False))


def _tanh(xp: Any, params: Any, state: Any, inputs: Any) -> Any:
    state = xp.tanh(params["W"] @ state + params["B"] @ inputs["x"] + params["b"])
    return state, 0.5 * xp.sum((params["C"] @ state - inputs["y"]) ** 2)


def test_dropout_makes_a_model_unverifiable() -> None:
    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        state, loss = inner(params, torch.nn.functional.dropout(state, 0.5), inputs)
        return state, loss

    trial = _torch_trial(transition)
    torch.manual_seed(0)
    assert check_purity(*trial.first).verdict == "unverifiable"
    finding = check_determinism(trial, UORO())
    assert finding.verdict == "unverifiable"
    assert "randomness" in finding.evidence


def test_no_grad_inside_a_model_is_seen_by_differences() -> None:
    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        with torch.no_grad():
            state = 0.5 * state
        return inner(params, state, inputs)

    assert check_truth(*_torch_trial(transition).first).verdict == "broken"


def test_a_model_that_changes_its_state_in_place_is_refused() -> None:
    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        following, loss = inner(params, state.clone(), inputs)
        with torch.no_grad():
            state.mul_(0.9)
        return following, loss

    finding = check_purity(*_torch_trial(transition).first)
    assert finding.verdict == "broken"
    assert "state changed" in finding.evidence


def test_a_custom_vjp_that_is_off_by_a_percent_is_seen_by_differences() -> None:
    @jax.custom_vjp
    def squash(x: Any) -> Any:
        return jnp.tanh(x)

    squash.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (1.01 * g * (1 - jnp.tanh(x) ** 2),))
    backend = load_backend("jax")
    with backend.precision("float64"):
        trial = GALLERY[0].build(backend)

        def transition(params: Any, state: Any, inputs: Any) -> Any:
            pre = params["W"] @ state + params["B"] @ inputs["x"] + params["b"]
            state = squash(pre)
            return state, 0.5 * jnp.sum((params["C"] @ state - inputs["y"]) ** 2)

        trial = replace(trial, dynamics=backend.dynamics(transition, check=False))
        finding = check_truth(*trial.first)
        assert finding.verdict == "broken"
        assert "off by 1.0" in finding.evidence


def test_an_autograd_function_that_is_off_by_a_percent_is_seen_by_differences() -> None:
    class Squash(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = torch.tanh(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (y,) = ctx.saved_tensors
            return 1.01 * g * (1 - y**2)

    apply: Any = Squash.apply

    def transition(inner: Any, params: Any, state: Any, inputs: Any) -> Any:
        state = apply(params["W"] @ state + params["B"] @ inputs["x"] + params["b"])
        return state, 0.5 * torch.sum((params["C"] @ state - inputs["y"]) ** 2)

    finding = check_truth(*_torch_trial(transition).first)
    assert finding.verdict == "broken"
    assert "off by 1.0" in finding.evidence
