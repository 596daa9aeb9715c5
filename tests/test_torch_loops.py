"""Loops around `online(x)` and ``loss.backward()``: scalers, clipping, hooks; and bad input."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from uoro_torch import Online, TorchBackend

from uoro import UORO, RollingTruncated, Streams, unroll
from uoro.errors import DerivativeError, SettingError, StructureError

IN, UNITS, OUT = 3, 4, 2
ZERO = torch.zeros(UNITS).double()


class Read(nn.Module):
    """A GRU cell and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.readout = nn.GRUCell(IN, UNITS), nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.core(input, state)
        return self.readout(state), state


def _made(**options: Any) -> tuple[nn.Module, Online, Any]:
    """Return the same model each time, and its items."""
    torch.manual_seed(0)
    model = Read().double()
    online = Online.for_module(model, state=ZERO, **options)
    return model, online, list(torch.randn(6, IN).double())


def _loss(output: Tensor) -> Any:
    return (output - 1.0).square().mean()


def _plain(steps: int = 3) -> list[list[Tensor]]:
    """Return the gradients of the first steps."""
    model, online, items = _made()
    found = []
    for x in items[:steps]:
        _loss(online(x)).backward()
        found.append([param.grad.clone() for param in model.parameters() if param.grad is not None])
        model.zero_grad()
    return found


def _gradients(model: nn.Module) -> list[Tensor]:
    return [param.grad.clone() for param in model.parameters() if param.grad is not None]


def test_gradients_accumulate_until_they_are_cleared() -> None:
    model, online, items = _made()
    for x in items[:3]:
        (_loss(online(x)) / 3).backward()
    means = [torch.stack(parts).mean(0) for parts in zip(*_plain(), strict=True)]
    assert all(map(torch.allclose, _gradients(model), means))


def test_a_scaler_scales_and_unscales() -> None:
    model, online, items = _made()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for x, expected in zip(items, _plain(), strict=False):
        loss: Any = scaler.scale(_loss(online(x)))
        loss.backward()
        scaler.unscale_(optimizer)
        assert all(map(torch.equal, _gradients(model), expected))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


def test_autocast_covers_the_step_and_not_the_backward_pass() -> None:
    for streams in (None, 2):
        lead = () if streams is None else (streams,)
        torch.manual_seed(0)
        model = Read()
        online = Online.for_module(
            model, state=torch.zeros(*lead, UNITS), streams=streams, estimator=UORO()
        )
        x = torch.randn(*lead, IN)
        with torch.autocast("cpu", torch.bfloat16):
            output = online(x)
            assert output.dtype == torch.bfloat16
        output.float().sum().backward()
        got = _gradients(model)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            expected = model(x, torch.zeros(*lead, UNITS))[0]
        expected.float().sum().backward()
        assert all(
            torch.allclose(*pair, atol=0.02) for pair in zip(got, _gradients(model), strict=True)
        )


def test_clipping_groups_and_schedules_are_those_of_the_framework() -> None:
    model, online, items = _made()
    expected = _plain(1)[0]
    norm = torch.linalg.vector_norm(torch.cat([part.flatten() for part in expected]))
    groups: Any = [
        {"params": list(model.core.parameters()), "lr": 0.1},  # type: ignore[union-attr]
        {"params": list(model.readout.parameters()), "lr": 0.2, "weight_decay": 0.5},  # type: ignore[union-attr]
    ]
    optimizer = torch.optim.SGD(groups)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    before = [param.detach().clone() for param in model.parameters()]
    _loss(online(items[0])).backward()
    assert torch.allclose(nn.utils.clip_grad_norm_(model.parameters(), 1e-3), norm)
    optimizer.step()
    schedule.step()
    rates = [0.1] * 4 + [0.2] * 2
    decays = [0.0] * 4 + [0.5] * 2
    for param, old, part, rate, decay in zip(
        model.parameters(), before, expected, rates, decays, strict=True
    ):
        assert torch.allclose(param, old - rate * (part * 1e-3 / (norm + 1e-6) + decay * old))
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.1]


def test_hooks_on_parameters_see_the_final_gradient_once() -> None:
    model, online, items = _made()
    seen, after = list[Tensor](), list[Tensor]()
    expected = _plain(2)
    params: list[Any] = list(model.parameters())
    for param in params:
        param.register_hook(lambda gradient: seen.append(gradient.clone()))
        param.register_post_accumulate_grad_hook(lambda param: after.append(param.grad))
    for x, wanted in zip(items, expected, strict=False):
        _loss(online(x)).backward()
        assert len(seen) == len(after) == 6
        assert sorted(float(part.sum()) for part in seen) == pytest.approx(
            sorted(float(part.sum()) for part in wanted), rel=1e-12
        )
        seen.clear()
        after.clear()
        model.zero_grad()


def test_manual_optimisation_and_a_closure() -> None:
    """A loop in the manner of Lightning's, whose optimizer calls a closure."""
    model, online, items = _made()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for x, expected in zip(items, _plain(), strict=False):

        def closure(x: Tensor = x) -> Any:
            optimizer.zero_grad()
            loss = _loss(online(x))
            loss.backward()
            return loss

        optimizer.step(closure)
        assert all(map(torch.equal, _gradients(model), expected))


def test_a_saved_run_goes_on_bit_for_bit() -> None:
    (_, online, items), expected = _made(), _plain()
    with torch.no_grad():
        online(items[0])
    saved = online.state_dict()
    model, other, _ = _made()
    other.load_state_dict(saved)
    _loss(other(items[1])).backward()
    assert all(map(torch.equal, _gradients(model), expected[1]))


def test_a_copy_of_an_online_has_params_of_its_own() -> None:
    params = {"w": torch.ones(UNITS).double().requires_grad_()}
    online = Online(_transition, params, ZERO, estimator=UORO())
    online(ZERO + 1.0).backward()
    copied = copy.deepcopy(online)
    for each in (online, copied):
        each.params["w"].grad = None
        each(ZERO + 0.5).backward()
    first, second = (each.params["w"].grad for each in (online, copied))
    assert first is not second
    assert torch.equal(first, second)  # type: ignore[arg-type]
    loss = copied(ZERO)
    torch.optim.SGD(copied.params.values(), lr=0.1, fused=True).step()
    with pytest.raises(DerivativeError, match="late=True"):
        loss.backward()


REFUSED: list[tuple[str, type[Exception], str]] = [
    ("twice", DerivativeError, "expected one backward pass.*retain_graph=True"),
    ("create_graph", DerivativeError, "create_graph=True.*Leave create_graph out"),
    ("another", SettingError, "expected an input from outside.*detach"),
    ("its own", SettingError, "expected an input from outside.*detach"),
    ("two inputs", SettingError, r"online\(...\): expected one argument.*got 2.*the loss"),
    ("windows", SettingError, "expected an input that requires no gradient"),
    ("frozen", SettingError, "expected parameters that require gradients.*requires_grad_"),
    ("integers", StructureError, "expected an output with floating-point tensors"),
    ("inference", SettingError, "torch.inference_mode"),
    ("no graph", RuntimeError, "does not require grad"),
    ("cotangent", RuntimeError, "Mismatch in shape"),
    ("rows", StructureError, "expected"),
    ("window", SettingError, "either by online.*or by step.*reset"),
    ("late", SettingError, "late"),
]


@pytest.mark.parametrize(("case", "kind", "text"), REFUSED, ids=[case for case, *_ in REFUSED])
def test_bad_input_is_refused_with_the_way_out(case: str, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=re.compile(text, re.DOTALL)):
        _do(case)


def _do(case: str) -> None:
    model, online, (x, *_) = _made()
    run: dict[str, Any] = {
        "twice": lambda: _twice(online(x)),
        "create_graph": lambda: _again(model, online(x)),
        "another": lambda: _made()[1](torch.cat([online(x), x[:1]])),
        "its own": lambda: online(torch.cat([online(x), x[:1]])),
        "two inputs": lambda: online(x, x),
        "windows": lambda: _unrolled()(x[None].requires_grad_()),
        "frozen": lambda: Online(_transition, {"w": ZERO}, ZERO, estimator=UORO())(ZERO),
        "integers": lambda: Online(
            _integers, {"w": ZERO.clone().requires_grad_()}, ZERO, estimator=UORO()
        )(ZERO),
        "inference": lambda: _inference(online, x),
        "no graph": lambda: _loss(online.peek(x)).backward(),
        "cotangent": lambda: online(x).backward(torch.ones(OUT + 1)),
        "rows": lambda: Online.for_module(
            model, state=torch.zeros(2, UNITS).double(), estimator=Streams(UORO(), 2)
        )(x),
        "window": lambda: _mixed(model, x),
        "late": lambda: Online.for_module(model, state=ZERO, late=1, estimator=UORO()),  # type: ignore[arg-type]
    }
    run[case]()


def _mixed(model: nn.Module, x: Tensor) -> None:
    online = Online.for_module(
        model, nn.functional.mse_loss, state=ZERO, estimator=RollingTruncated(2)
    )
    online.step(x, x[:OUT])
    online.reset()
    online(x)
    online.step(x, x[:OUT])


def _transition(params: Any, state: Tensor, x: Tensor) -> Any:
    state = torch.tanh(params["w"] * state + x)
    return state, state.sum()


def _integers(params: Any, state: Tensor, x: Tensor) -> Any:
    state, _ = _transition(params, state, x)
    return state, state.argmax()


def _twice(output: Tensor) -> None:
    _loss(output).backward()
    _loss(output).backward()


def _again(model: nn.Module, output: Tensor) -> None:
    param = next(model.parameters())
    gradient: Any = torch.autograd.grad(_loss(output), param, create_graph=True)[0]
    gradient.sum().backward()


def _unrolled() -> Online:
    params = {"w": ZERO.clone().requires_grad_()}

    def one(params: Any, state: Tensor, x: Tensor) -> Any:
        return _transition(params, state, x.sum())

    return Online(unroll(TorchBackend().dynamics(one), 1), params, ZERO, estimator=UORO())


def _inference(online: Online, x: Tensor) -> None:
    with torch.inference_mode():
        online(x)
