"""What a torch user relies on: gradients in ``.grad``, and no graph kept from step to step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from uoro_torch import Online, TorchBackend, TorchOptimizer

from uoro import RTRL, SGD, UORO, Adam, Estimator, Learner, Streams
from uoro.errors import SettingError
from uoro.estimators import Truncated


class Recurrent(nn.Module):
    """A GRU cell and a readout."""

    def __init__(self, units: int = 4) -> None:
        super().__init__()
        self.cell, self.readout = nn.GRUCell(2, units), nn.Linear(units, 1)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.cell(x, state)
        return self.readout(state), state


def _model() -> Recurrent:
    torch.manual_seed(0)
    return Recurrent().double()


def _items(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    draw = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return [(row[:2], row[2:]) for row in draw]


def test_rtrl_fills_grad_with_what_backward_would() -> None:
    model, twin = _model(), _model()
    online = Online.for_module(
        model, nn.functional.mse_loss, torch.zeros(4).double(), estimator=RTRL()
    )
    state, total = torch.zeros(4).double(), torch.zeros((), dtype=torch.float64)
    for x, y in _items(5):
        loss = online.step(x, y)
        assert not loss.requires_grad
        output, state = twin(x, state)
        total = total + nn.functional.mse_loss(output, y)
    total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for (name, got), wanted in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert got.grad is not None, name
        assert wanted.grad is not None, name
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-12, atol=1e-14)


def test_frozen_parameters_stay_untouched() -> None:
    model = _model()
    model.cell.weight_ih.requires_grad_(False)
    online = Online.for_module(
        model, nn.functional.mse_loss, torch.zeros(4).double(), estimator=UORO()
    )
    for x, y in _items(3):
        online.step(x, y)
    assert model.cell.weight_ih.grad is None
    assert model.cell.weight_hh.grad is not None


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.enable_grad])
def test_the_callers_grad_mode_makes_no_difference(grad_mode: Any) -> None:
    plain = Online.for_module(
        _model(), nn.functional.mse_loss, torch.zeros(4).double(), estimator=UORO()
    )
    wrapped = Online.for_module(
        _model(), nn.functional.mse_loss, torch.zeros(4).double(), estimator=UORO()
    )
    for x, y in _items(3):
        plain.step(x, y)
        with grad_mode():
            wrapped.step(x, y)
    for name, param in plain.params.items():
        other = wrapped.params[name]
        assert param.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(param.grad, other.grad, rtol=0, atol=0)


def _transition(params: dict[str, Tensor], state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    state = torch.tanh(params["A"] @ state + x)
    return state, (state**2).sum()


@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), RTRL(), Truncated()])
@pytest.mark.parametrize("streams", [None, 3])
def test_nothing_keeps_the_graph_of_the_past(estimator: Estimator, streams: int | None) -> None:
    params = {"A": (0.1 * torch.eye(4)).requires_grad_()}
    lead = () if streams is None else (streams,)
    online = Online(
        _transition,
        dict[str, Tensor](params),
        torch.zeros(*lead, 4),
        estimator=estimator if streams is None else Streams(estimator, streams),
    )
    for _ in range(3):
        loss = online.step(torch.ones(*lead, 4))
    backend = TorchBackend()
    grad = params["A"].grad
    for _, leaf in backend.named_leaves((online.state, online.carry, loss, grad)):
        assert isinstance(leaf, Tensor)
        assert not leaf.requires_grad
        assert leaf.grad_fn is None


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(0.1)])
def test_params_that_require_gradients_are_updated_without_a_graph(optimizer: Any) -> None:
    backend = TorchBackend()
    params = {"A": (0.1 * torch.eye(4)).requires_grad_()}
    learner = Learner(backend.dynamics(_transition), UORO(), optimizer, params, torch.zeros(4))
    learner.run([np.ones(4, np.float32)] * 3)
    assert learner.params["A"].grad_fn is None
    assert not learner.state.requires_grad


def test_grad_accumulates_until_it_is_zeroed_and_any_optimizer_steps() -> None:
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    online = Online.for_module(
        model, nn.functional.mse_loss, torch.zeros(4).double(), estimator=Truncated()
    )
    (x, y), *_ = _items(1)
    online.step(x, y)
    once = model.readout.bias.grad
    assert once is not None
    once = once.clone()
    online.reset()
    online.step(x, y)
    assert model.readout.bias.grad is not None
    torch.testing.assert_close(model.readout.bias.grad, 2 * once)
    before = model.readout.bias.detach().clone()
    optimizer.step()
    optimizer.zero_grad()
    torch.testing.assert_close(model.readout.bias.detach(), before - 0.2 * once)
    assert model.readout.bias.grad is None


def test_gradients_do_not_share_storage() -> None:
    def transition(params: Any, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        state = 0.5 * state + params["a"] + params["b"]
        return state, state.sum()

    params = {"a": torch.zeros(3), "b": torch.zeros(3)}
    Online(transition, params, torch.zeros(3), estimator=Truncated()).step(torch.ones(()))
    assert params["a"].grad is not params["b"].grad
    torch.nn.utils.clip_grad_norm_(params.values(), 1.0, foreach=False)
    size = torch.stack([p.grad.norm() for p in params.values() if p.grad is not None]).norm()
    torch.testing.assert_close(size, torch.tensor(1.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("estimator", [UORO(rank=2), RTRL()])
def test_stacks_in_half_precision(dtype: torch.dtype, estimator: Estimator) -> None:
    params = {"A": 0.1 * torch.eye(4, dtype=dtype)}
    online = Online(_transition, params, torch.zeros(4, dtype=dtype), estimator=estimator)
    for _ in range(3):
        online.step(torch.ones(4, dtype=dtype))
    assert params["A"].grad is not None
    assert params["A"].grad.dtype is dtype
    assert TorchBackend().to_host(params["A"]).shape == (4, 4)


def test_misuse_is_named() -> None:
    with torch.inference_mode(), pytest.raises(SettingError, match=r"Use torch\.no_grad"):
        Online(_transition, {"A": torch.eye(4)}, torch.zeros(4), estimator=UORO()).step(
            torch.ones(4)
        )
    wrong: Any = [torch.zeros(2)]
    with pytest.raises(SettingError, match="dict of tensors"):
        Online(_transition, wrong, torch.zeros(4), estimator=UORO())
    with pytest.raises(SettingError, match="dict of tensors"):
        Online(_transition, {}, torch.zeros(4), estimator=UORO())
    online = Online(_transition, {"A": torch.eye(4)}, torch.zeros(4), estimator=UORO())
    with pytest.raises(SettingError, match="expected no mask for a single stream"):
        online.reset(torch.tensor([True]))
    assert isinstance(TorchOptimizer(torch.optim.SGD([torch.zeros(1)], lr=1.0)), TorchOptimizer)
