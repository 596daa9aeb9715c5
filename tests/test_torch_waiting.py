"""Outputs of `Online` that wait for their loss: memory, changed parameters, peeks and resets."""

from __future__ import annotations

import gc
import os
import weakref
from collections import deque
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from uoro_torch import Online
from uoro_torch.pending import Pending

from uoro import RTRL, UORO, RollingTruncated, Streams
from uoro.errors import DerivativeError

IN, UNITS, OUT = 3, 4, 2


class Read(nn.Module):
    """A GRU cell and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.readout = nn.GRUCell(IN, UNITS), nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.core(input, state)
        return self.readout(state), state


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _made(**options: Any) -> tuple[nn.Module, Online]:
    model = Read().double()
    estimator = options.setdefault("estimator", UORO())
    lead = (estimator.count,) if isinstance(estimator, Streams) else ()
    return model, Online.for_module(model, state=torch.zeros(*lead, UNITS).double(), **options)


def _x(*lead: int) -> Tensor:
    return torch.randn(*lead, IN).double()


def _gradients(model: nn.Module) -> list[Tensor]:
    found = [param.grad for param in model.parameters() if param.grad is not None]
    return [gradient.clone() for gradient in found]


ANY = [UORO(), UORO(rank=2), RTRL(), RollingTruncated(3), Streams(UORO(), 2), Streams(RTRL(), 2)]


@pytest.mark.parametrize("taken", [16, None])
@pytest.mark.parametrize("estimator", ANY, ids=str)
def test_steps_are_released_with_their_outputs(
    estimator: Any, taken: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = weakref.WeakSet[Pending]()
    monkeypatch.setattr(
        "uoro_torch.pending.Pending", lambda *given: _counted(alive, Pending(*given))
    )
    model, online = _made(estimator=estimator)
    lead = (2,) if isinstance(estimator, Streams) else ()
    waiting, most = deque[Any](), 0
    gc.disable()  # Released at once, not when cycles are looked for.
    try:
        for _ in range(40):
            waiting.append(online(_x(*lead)))
            if len(waiting) > (taken or 0):
                output = waiting.popleft()
                if taken:
                    output.sum().backward()
                    model.zero_grad()
                del output
            most = max(most, len(alive))
    finally:
        gc.enable()
    assert most <= (taken or 0) + 1
    waiting.clear()
    assert not alive


def _counted(alive: Any, step: Pending) -> Pending:
    alive.add(step)
    return step


def test_a_backward_pass_releases_the_step_though_the_output_is_kept() -> None:
    _, online = _made()
    outputs = [online(_x()) for _ in range(3)]
    assert len(online._pending._steps) == 3
    total: Any = torch.stack(outputs).sum()
    total.backward()
    assert len(online._pending._steps) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:online.x.. expected a backward pass:uoro.UOROWarning")
def test_memory_is_flat_over_many_steps() -> None:
    steps = int(os.environ.get("UORO_STEPS", "2000"))
    with open("/proc/self/statm") as file:
        for late in (16, None):
            model, online = _made()
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
            waiting, sizes = deque[Any](), list[int]()
            for step in range(steps):
                waiting.append(online(_x()))
                if len(waiting) > (late or 0):
                    output = waiting.popleft()
                    if late:
                        output.square().sum().backward()
                        optimizer.step()
                        optimizer.zero_grad()
                if step % (steps // 4) == steps // 4 - 1:
                    file.seek(0)
                    sizes.append(int(file.read().split()[1]) * 4096)
            assert sizes[-1] - sizes[0] < 2e6, sizes


@pytest.mark.parametrize("estimator", ANY, ids=str)
@pytest.mark.parametrize("late", [False, True])
def test_a_step_on_params_that_changed_is_refused_or_ran_on_copies(
    estimator: Any, late: bool
) -> None:
    model, online = _made(estimator=estimator, late=late)
    lead = (2,) if isinstance(estimator, Streams) else ()
    online(_x(*lead)).sum().backward()
    model.zero_grad()
    x = _x(*lead)
    output = online(x)
    output.sum().backward(retain_graph=True)
    expected = _gradients(model)
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.step()
    model.zero_grad()
    if late:
        x.zero_()
        output.sum().backward()
        assert all(map(torch.equal, _gradients(model), expected))
    else:
        with pytest.raises(DerivativeError, match=r"core.weight_ih.*changed in place.*late=True"):
            output.sum().backward()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}])
def test_every_kind_of_update_in_place_is_noticed(kind: Any, options: Any) -> None:
    model, online = _made()
    optimizer = kind(model.parameters(), lr=0.1, **options)
    online(_x()).sum().backward()
    output = online(_x())
    optimizer.step()
    with pytest.raises(DerivativeError, match="late=True"):
        output.sum().backward()


def test_an_input_that_changed_in_place_is_refused() -> None:
    _, online = _made()
    x = _x()
    output = online(x)
    x.zero_()
    with pytest.raises(DerivativeError, match=r"expected input and state.*x.clone\(\)"):
        output.sum().backward()


def test_an_output_stays_valid_after_reset_and_load() -> None:
    model, online = _made()
    saved = online.state_dict()
    online(_x())
    x = _x()
    carry, state, steps = online.carry, online.state, online.steps
    output = online(x)
    online.reset()
    online.load_state_dict(saved)
    output.sum().backward()
    late = _gradients(model)
    model.zero_grad()
    online.carry, online.state, online.steps = carry, state, steps
    online(x).sum().backward()
    assert all(map(torch.equal, late, _gradients(model)))


def test_without_gradients_the_step_is_taken_and_a_peek_takes_none() -> None:
    (model, online), other = _made(), None
    torch.manual_seed(0)
    _, other = _made()
    for step in range(4):
        x = _x()
        peeked = online.peek(x)
        assert online.steps == step
        with torch.no_grad():
            output = online(x)
        assert not output.requires_grad
        assert torch.equal(output, peeked)
        assert torch.equal(output, other(x))
        assert online.steps == other.steps == step + 1
        output.zero_()  # Tensors of its own.
        assert torch.equal(online.state, other.state)
        assert torch.equal(online.carry.tangent, other.carry.tangent)
    assert not _gradients(model)


def test_a_peek_leaves_random_numbers_and_buffers_as_they_are() -> None:
    class Noisy(nn.Module):
        seen: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.core, self.drop = nn.GRUCell(IN, UNITS), nn.Dropout(0.5)
            self.register_buffer("seen", torch.zeros(()).double())

        def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            self.seen.add_(1.0)
            state = self.core(input, state)
            return self.drop(state), state

    model = Noisy().double()
    online = Online.for_module(model, state=torch.zeros(UNITS).double(), estimator=UORO())
    x, before = _x(), torch.get_rng_state()
    peeked = online.peek(x)
    assert torch.equal(before, torch.get_rng_state())
    assert model.seen == 0
    assert torch.equal(peeked, online(x))
    assert model.seen == 1


def test_gradients_of_streams_read_buffers_and_modes_as_they_were() -> None:
    class Scaled(nn.Module):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.core = nn.GRUCell(IN, UNITS)
            self.register_buffer("scale", torch.ones(()).double())

        def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            self.scale = self.scale * 1.5
            state = self.core(input, state)
            return state * (self.scale if self.training else 7.0), state

    model = Scaled().double()
    online = Online.for_module(
        model, state=torch.zeros(2, UNITS).double(), streams=2, estimator=UORO()
    )
    output = online(_x(2))
    model.eval()
    output.sum().backward()
    got = _gradients(model)
    model.zero_grad()
    assert model.scale == 1.5
    assert not model.training
    torch.manual_seed(0)
    again = Scaled().double()
    x = _x(2)
    again.core(x, torch.zeros(2, UNITS).double()).mul(1.5).sum().backward()
    assert all(map(torch.allclose, got, _gradients(again)))
