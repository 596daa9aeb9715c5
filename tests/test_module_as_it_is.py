"""A module whose parameters are autograd's leaves runs as it is, and gives the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_models.torch_models import IN, OUT, UNITS, Read
from torch import Tensor, nn
from torch.nn import functional
from uoro_torch import Online
from uoro_torch.module import ModuleTransition, module_transition

from uoro import RTRL, UORO, load_backend
from uoro.estimators import Truncated

MSE = functional.mse_loss
STEPS = 4


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Tied(nn.Module):
    """A readout that is the weights going in, transposed; and a scale with another name too."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(IN, UNITS), nn.Linear(UNITS, UNITS)
        self.out = nn.Linear(UNITS, IN, bias=False)
        self.out.weight = nn.Parameter(self.into.weight.detach().T.clone())
        self.again = nn.Linear(UNITS, UNITS)
        self.again.weight = self.back.weight

    def forward(self, input: Tensor, state: Tensor) -> Any:
        state = torch.tanh(self.into(input) + self.again(torch.tanh(self.back(state))))
        return self.out(state)[:OUT], state


def _frozen() -> nn.Module:
    model = Read(nn.GRUCell(IN, UNITS))
    model.core.weight_hh.requires_grad_(False)
    return model


def _shared_bias_gradients() -> nn.Module:
    """Both biases of a plain cell get one gradient, of which there may be one tensor."""
    return Read(nn.RNNCell(IN, UNITS))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "a cell and a readout": lambda: Read(nn.GRUCell(IN, UNITS)),
    "tied parameters": Tied,
    "a frozen parameter": _frozen,
    "gradients that are alike": _shared_bias_gradients,
}


def _gradients(model: nn.Module, estimator: Any) -> list[dict[str, Tensor]]:
    """Train nothing, and list what a step after the other puts into ``.grad``."""
    online = Online.for_module(model, MSE, torch.zeros(UNITS).double(), estimator=estimator)
    generator, found = torch.Generator().manual_seed(1), list[dict[str, Tensor]]()
    for _ in range(STEPS):
        model.zero_grad()
        x, y = (torch.randn(n, dtype=torch.float64, generator=generator) for n in (IN, OUT))
        online.step(x, y)
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    return found


@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), RTRL(), Truncated()], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_those_of_the_module_called_as_a_function(
    monkeypatch: pytest.MonkeyPatch, name: str, estimator: Any
) -> None:
    model = MODULES[name]().double()
    immediate = _gradients(model, estimator)
    monkeypatch.setattr(ModuleTransition, "_holds", lambda self, params: False)
    functional_ones = _gradients(model, estimator)
    torch.testing.assert_close(immediate, functional_ones, rtol=1e-10, atol=1e-12)
    model.register_buffer("unused", torch.zeros(1))
    monkeypatch.undo()
    torch.testing.assert_close(_gradients(model, estimator), immediate, rtol=1e-10, atol=1e-12)
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    assert all(set(found) == trained for found in immediate)


@pytest.mark.parametrize("name", MODULES)
def test_exact_gradients_are_those_of_backpropagation(name: str) -> None:
    """Summed over time, RTRL's are what PyTorch gives for the whole sequence."""
    model = MODULES[name]().double()
    found = _gradients(model, RTRL())
    generator = torch.Generator().manual_seed(1)
    state, total = torch.zeros(UNITS).double(), torch.zeros(()).double()
    for _ in range(STEPS):
        x, y = (torch.randn(n, dtype=torch.float64, generator=generator) for n in (IN, OUT))
        output, state = model(x, state)
        total = total + MSE(output, y)
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    wanted = torch.autograd.grad(total, list(params.values()))
    for (leaf, _), exact in zip(params.items(), wanted, strict=True):
        torch.testing.assert_close(sum(each[leaf] for each in found), exact)


def test_it_runs_as_it_is_only_with_its_own_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Read(nn.GRUCell(IN, UNITS))
    transition = ModuleTransition(model, MSE)
    params = dict(model.named_parameters())
    assert transition._holds(params)
    assert not transition._holds({name: param.detach() for name, param in params.items()})
    assert not transition._holds(dict(list(params.items())[:-1]))
    model.readout.weight = nn.Parameter(torch.zeros(OUT, UNITS))
    assert not transition._holds(params)
    assert transition._holds(dict(model.named_parameters()))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not transition._holds(dict(model.named_parameters()))


@pytest.mark.parametrize("deep", [False, True])
def test_parameters_that_are_given_count_even_where_the_module_has_others_by_now(
    deep: bool,
) -> None:
    """Of a submodule that was replaced, the old parameters are not to be mistaken for the new."""
    model = Read(nn.GRUCell(IN, UNITS))
    outer = nn.Sequential(model) if deep else model
    outer.forward = model.forward  # type: ignore[method-assign]  # a module of one part
    dynamics = load_backend("torch").dynamics(module_transition(outer, MSE), has_aux=True)
    params, state = dict(outer.named_parameters()), torch.randn(UNITS)
    item = torch.randn(IN), torch.randn(OUT)
    before = dynamics.forward(params, state, item)
    model.readout = nn.Linear(UNITS, OUT)
    after = dynamics.forward(params, state, item)
    assert torch.equal(before.loss, after.loss)  # type: ignore[arg-type]  # tensors


@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), RTRL(), Truncated()], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_a_gradient_that_is_changed_in_place_changes_nothing_else(
    name: str, estimator: Any
) -> None:
    model = MODULES[name]().double()
    online = Online.for_module(model, MSE, torch.zeros(UNITS).double(), estimator=estimator)
    for _ in range(2):
        model.zero_grad()
        online.step(torch.randn(IN).double(), torch.randn(OUT).double())
        grads = {key: p.grad for key, p in online.params.items() if p.grad is not None}
        assert set(grads) == set(online.params)
        for changed, grad in grads.items():
            before = _everything(online, grads)
            grad.add_(1.0)
            for key, value in _everything(online, grads).items():
                assert torch.equal(value, before[key]) == (key != f"grad {changed}"), key


def _everything(online: Online, grads: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy whatever a gradient must not share its memory with."""
    leaves = {"state": online.state}
    leaves |= {f"grad {key}": grad for key, grad in grads.items()}
    leaves |= {f"param {key}": param for key, param in online.params.items()}
    named = online.dynamics.backend.named_leaves(online.carry)
    leaves |= {f"memory {key}": leaf for key, leaf in named}
    return {key: leaf.detach().clone() for key, leaf in leaves.items()}
