"""Hooks on parameters, activations and modules, in models of `Online`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_models.torch_models import IN, OUT, UNITS, Read
from torch import Tensor, nn
from torch.nn import functional
from uoro_conformance import check_model
from uoro_torch import Online, TorchBackend, module_transition
from uoro_torch.dynamics import FEW

from uoro import RTRL, UORO, JointUORO, RollingTruncated, Streams, unroll
from uoro.errors import DerivativeError, DerivativeWarning
from uoro.estimators import Truncated

MSE = functional.mse_loss


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _stream(steps: int, *lead: int) -> Any:
    inputs, targets = torch.randn(steps, *lead, IN), torch.randn(steps, *lead, OUT)
    return list(zip(inputs.double(), targets.double(), strict=True))


ESTIMATORS = [
    UORO(),
    UORO(rank=2),
    UORO(rank=FEW + 1),
    JointUORO(2),
    RTRL(),
    RollingTruncated(2),
    *(Streams(each, 3) for each in (UORO(), UORO(rank=2), JointUORO(2), RTRL())),
]


def _online(model: nn.Module, estimator: Any, check: bool = True) -> tuple[Online, tuple[int, ...]]:
    if isinstance(estimator, Truncated):
        transition = module_transition(model, MSE)
        step = TorchBackend().dynamics(transition, has_aux=True, check=check)
        params: Any = dict(model.named_parameters())
        state = torch.zeros(UNITS).double()
        return Online(unroll(step, 3), params, state, estimator=estimator), (3,)
    lead = (estimator.count,) if isinstance(estimator, Streams) else ()
    state = torch.zeros(*lead, UNITS).double()
    return Online.for_module(model, MSE, state, estimator=estimator, check=check), lead


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("estimator", [*ESTIMATORS, Truncated()], ids=str)
def test_hooks_on_parameters_see_the_final_gradient_and_nothing_else(
    estimator: Any, check: bool
) -> None:
    """The oracle is the module without hooks, with the same signs."""
    plain, hooked = (Read(nn.GRUCell(IN, UNITS)).double() for _ in range(2))
    hooked.load_state_dict(plain.state_dict())
    seen, complete = list[Tensor](), list[Tensor]()

    def clip(gradient: Tensor) -> Tensor:
        seen.append(gradient.clone())
        return gradient.clamp(-1e-3, 1e-3)

    def keep(param: Tensor) -> None:
        assert param.grad is not None
        complete.append(param.grad.clone())

    for param in hooked.parameters():
        param.register_hook(clip)  # type: ignore[no-untyped-call]  # PyTorch's own has no types
        param.register_post_accumulate_grad_hook(keep)  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    (one, lead), (two, _) = (_online(module, estimator, check) for module in (plain, hooked))
    for x, y in _stream(3, *lead):
        for each in (seen, complete):
            each.clear()
        for module in (plain, hooked):
            module.zero_grad()
        one.step(x, y)
        two.step(x, y)
        wanted = [param.grad for param in plain.parameters()]
        torch.testing.assert_close(seen, wanted, rtol=0, atol=0)
        clipped = [clip(gradient) for gradient in wanted if gradient is not None]
        for got in (complete, [param.grad for param in hooked.parameters()]):
            torch.testing.assert_close(got, clipped, rtol=0, atol=0)


def test_a_hook_that_the_first_step_registers_sees_no_signs() -> None:
    class Late(Read):
        def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
            weight: Any = self.readout.weight
            if weight.requires_grad and not weight._backward_hooks and weight is mine:
                weight.register_hook(seen.append)  # type: ignore[no-untyped-call]  # the same
            return super().forward(input, state)

    seen, model = list[Tensor](), Late(nn.GRUCell(IN, UNITS)).double()
    mine = model.readout.weight
    online = Online.for_module(
        model, MSE, torch.zeros(UNITS).double(), check=False, estimator=UORO()
    )
    for number, (x, y) in enumerate(_stream(3)):
        model.zero_grad()
        online.step(x, y)
        assert len(seen) == number, "The first step has other tensors in the place of parameters."
        torch.testing.assert_close(seen[-1:], [mine.grad] if number else [])


@pytest.mark.parametrize("streams", [None, 3])
@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), RTRL()], ids=str)
def test_a_hook_after_the_gradient_is_complete_may_take_the_optimizers_step(
    estimator: Any, streams: int | None
) -> None:
    """The oracle is the module without hooks, updated in the loop, with the same signs."""
    lead = () if streams is None else (streams,)
    plain, hooked = (Read(nn.GRUCell(IN, UNITS)).double() for _ in range(2))
    hooked.load_state_dict(plain.state_dict())
    seen = list[Tensor]()

    def descend(param: Tensor) -> None:
        assert param.grad is not None
        seen.append(param.grad)
        with torch.no_grad():
            param -= 0.1 * param.grad
        param.grad = None

    for param in hooked.parameters():
        param.register_post_accumulate_grad_hook(descend)  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    one, two = (
        Online.for_module(
            module, MSE, torch.zeros(*lead, UNITS).double(), streams=streams, estimator=estimator
        )
        for module in (plain, hooked)
    )
    for x, y in _stream(4, *lead):
        seen.clear()
        one.step(x, y)
        two.step(x, y)
        torch.testing.assert_close(seen, [param.grad for param in plain.parameters()])
        for param in plain.parameters():
            assert param.grad is not None
            descend(param)
    torch.testing.assert_close(list(hooked.parameters()), list(plain.parameters()))


class Hooked(Read):
    """A cell whose output has a hook."""

    def __init__(self, hook: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__(nn.GRUCell(IN, UNITS))
        self.hook = hook

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        state = self.core(input, state)
        state.register_hook(self.hook)
        return self.readout(state), state


def _hooked_module() -> nn.Module:
    def clip(part: nn.Module, into: Any, out: Any) -> Any:
        return tuple(None if each is None else each.clamp(-0.1, 0.1) for each in into)

    model = Read(nn.GRUCell(IN, UNITS))
    model.core.register_full_backward_hook(clip)
    return model


CLIPPING: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "clamp": (lambda: Hooked(lambda g: g.clamp(-0.1, 0.1)), r"test_torch_hooks\.py:\d+"),
    "rare clamp": (lambda: Hooked(lambda g: g.clamp(-100.0, 100.0)), r"test_torch_hooks\.py:\d+"),
    "normalise": (lambda: Hooked(lambda g: g / (g.norm() + 1e-9)), r"test_torch_hooks\.py:\d+"),
    "module": (_hooked_module, r"core \(GRUCell\)"),
}


@pytest.mark.parametrize("streams", [None, 2])
@pytest.mark.parametrize("name", CLIPPING)
def test_a_hook_that_clips_activations_is_refused_by_its_place(
    name: str, streams: int | None
) -> None:
    make, place = CLIPPING[name]
    lead = () if streams is None else (streams,)
    online = Online.for_module(
        make(), MSE, torch.zeros(*lead, UNITS), streams=streams, estimator=UORO()
    )
    with pytest.raises(DerivativeError, match=f"got backward hooks at {place} that clip"):
        online.step(torch.randn(*lead, IN), torch.randn(*lead, OUT))


def test_a_hook_that_scales_is_warned_of_by_its_place() -> None:
    online = Online.for_module(Hooked(lambda g: g * 0.5), MSE, torch.zeros(UNITS), estimator=UORO())
    with pytest.warns(DerivativeWarning, match=r"or a backward hook, at test_torch_hooks\.py:\d+"):
        online.step(torch.randn(IN), torch.randn(OUT))


@pytest.mark.parametrize("streams", [None, 2])
def test_a_hook_that_only_looks_changes_nothing(streams: int | None) -> None:
    lead = () if streams is None else (streams,)
    seen = list[Tensor]()
    plain, hooked = Read(nn.GRUCell(IN, UNITS)).double(), Hooked(seen.append).double()
    hooked.load_state_dict(plain.state_dict())
    one, two = (
        Online.for_module(
            module, MSE, torch.zeros(*lead, UNITS).double(), streams=streams, estimator=UORO()
        )
        for module in (plain, hooked)
    )
    for x, y in _stream(3, *lead):
        one.step(x, y)
        two.step(x, y)
    assert seen
    for mine, wanted in zip(hooked.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad)


@pytest.mark.parametrize("streams", [None, 2])
def test_a_hook_is_no_obstacle_to_a_forward_pass(streams: int | None) -> None:
    lead = () if streams is None else (streams,)
    model = Hooked(lambda gradient: None).double()
    state, x = torch.zeros(*lead, UNITS).double(), torch.randn(*lead, IN).double()
    online = Online.for_module(model, state=state, streams=streams, check=False, estimator=UORO())
    with torch.no_grad():
        expected = model.readout(model.core(x, state))
    for _ in range(2):
        torch.testing.assert_close(online.peek(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(online(x), expected)


def test_the_report_on_a_model_tells_a_hook_that_looks_from_one_that_clips() -> None:
    items = [(x, y, torch.tensor(0)) for x, y in _stream(2)]
    for hook, clips in ((lambda g: None, False), (lambda g: g.clamp(-0.1, 0.1), True)):
        online = Online.for_module(
            Hooked(hook).double(), MSE, torch.zeros(UNITS).double(), estimator=UORO()
        )
        report = check_model(online.dynamics, online.params, online.state, items)
        assert bool(report.exit_status) is clips
        assert any("hooks at test_torch_hooks.py" in note for note in report.notes) is clips
