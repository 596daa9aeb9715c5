"""Modules that keep their state in attributes and buffers, made explicit by `lift_state`."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_models.torch_models import IN, OUT, UNITS
from torch import Tensor, nn
from torch.nn import functional
from uoro_torch import Online, lift_state

from uoro import RTRL, Streams
from uoro.errors import SettingError, StructureError

MSE = functional.mse_loss


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Fire(torch.autograd.Function):
    """A spike, with the derivative of a sigmoid."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor) -> Tensor:
        ctx.save_for_backward(potential)
        return (potential > 0).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (potential,) = ctx.saved_tensors
        s = torch.sigmoid(4 * potential)
        return gradients[0] * 4 * s * (1 - s)


def fire(potential: Tensor) -> Tensor:
    spikes: Tensor = Fire.apply(potential)  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    return spikes


class Wrapper(nn.Module):
    """A recurrent part that keeps its state, between two linear maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.readout = nn.Linear(IN, UNITS), nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor) -> Any:
        return self.readout(self.advance(self.into(input)))

    def advance(self, current: Tensor) -> Tensor:
        raise NotImplementedError


class Kept(Wrapper):
    """A stateful LSTM: a tuple that is made in the first forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.outputs = nn.LSTMCell(UNITS, UNITS), list[Tensor]()
        self.hidden: Any = None

    def advance(self, current: Tensor) -> Tensor:
        self.hidden = self.cell(current, self.hidden)
        output: Tensor = self.hidden[0]
        self.outputs.append(output)
        return output


class Integrating(Wrapper):
    """A neuron as in snnTorch with ``init_hidden=True``: an empty buffer, and a detached reset."""

    potential: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("potential", torch.zeros(0), persistent=False)
        self.reset = torch.zeros(0)

    def advance(self, current: Tensor) -> Tensor:
        if self.potential.shape != current.shape:
            self.potential = torch.zeros_like(current)
        self.reset = fire(self.potential - 0.3).detach()
        self.potential = 0.9 * self.potential + current - 0.3 * self.reset
        return fire(self.potential - 0.3)


class Node(nn.Module):
    """A neuron as in SpikingJelly: a number in a dict, reached by ``__getattr__``."""

    v: Any

    def __init__(self) -> None:
        super().__init__()
        self._memories: dict[str, Any] = {"v": 0.1}

    def __getattr__(self, name: str) -> Any:
        memories = self.__dict__.get("_memories", {})
        return memories[name] if name in memories else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_memories", {}):
            self._memories[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, current: Tensor) -> Tensor:
        if isinstance(self.v, float):
            self.v = torch.full_like(current, self.v)
        self.v = self.v + (current - self.v) / 2.0
        spikes = fire(self.v - 0.3)
        self.v = self.v * (1.0 - spikes.detach())
        return spikes


class Spiking(Wrapper):
    """Two such neurons, the second of which feeds back on the first."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = nn.ModuleList([Node(), Node()])
        self.back = nn.Linear(UNITS, UNITS)
        self.states: dict[str, list[Any]] = {"spikes": [None]}

    def advance(self, current: Tensor) -> Tensor:
        before = self.states["spikes"][0]
        if before is not None:
            current = current + self.back(before)
        else:
            current = current + self.back(torch.zeros_like(current))
        self.states = {"spikes": [self.nodes[1](self.nodes[0](current))]}
        spikes: Tensor = self.states["spikes"][0]
        return spikes


class Listed(Wrapper):
    """A list of states, some of them ``None``, that is made in the first forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(UNITS, UNITS)
        self.states: Any = None

    def advance(self, current: Tensor) -> Tensor:
        self.states = [None, self.cell(current, None if self.states is None else self.states[1])]
        output: Tensor = self.states[1][0]
        return output


class InPlace(Wrapper):
    """A trace that is changed in place, a count, and a running loss that nothing reads."""

    steps: Any

    def __init__(self) -> None:
        super().__init__()
        self.trace, self.total = torch.full((UNITS,), 0.5), torch.zeros(UNITS)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def advance(self, current: Tensor) -> Tensor:
        self.trace.mul_(0.8).add_(torch.tanh(current))
        self.total = self.total + self.trace
        self.steps += 1
        return self.trace + 0.0


KINDS: dict[str, tuple[Callable[[], Wrapper], list[str]]] = {
    "tuple": (Kept, ["hidden"]),
    "buffer": (Integrating, ["potential"]),
    "dicts": (Spiking, ["states.spikes.0", "nodes.0._memories.v", "nodes.1._memories.v"]),
    "list": (Listed, ["states"]),
    "in place": (InPlace, ["trace"]),
}


def _double(make: Callable[[], Wrapper]) -> Wrapper:
    model = make().double()
    if isinstance(model, InPlace):
        model.trace, model.total = model.trace.double(), model.total.double()
    return model


def _items(steps: int) -> Any:
    return [(2 * torch.randn(IN).double(), torch.randn(OUT).double()) for _ in range(steps)]


@pytest.mark.filterwarnings("ignore::uoro.errors.DerivativeWarning")  # of surrogates
@pytest.mark.parametrize("kind", KINDS)
def test_a_lifted_module_is_trained_as_bptt_through_the_module_would(kind: str) -> None:
    make, names = KINDS[kind]
    items = _items(5)
    reference, model = _double(make), _double(make)
    held = copy.deepcopy(vars(model))
    lifted = lift_state(model, items[0][0])
    assert sorted(lifted.initial_state()) == sorted(names)
    online = Online.for_module(lifted, MSE, estimator=RTRL())
    total = torch.zeros(())
    for x, y in items:
        loss = MSE(reference(x), y)
        total = total + loss
        torch.testing.assert_close(online.step(x, y), loss.detach())
    total.backward()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    for mine, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        expected = torch.zeros_like(wanted) if wanted.grad is None else wanted.grad
        torch.testing.assert_close(mine.grad, expected)
    for name in ("hidden", "trace", "states"):
        if name in held:
            assert repr(vars(model)[name]) == repr(held[name]), "the module's own state changed"


@pytest.mark.filterwarnings("ignore::uoro.errors.DerivativeWarning")
@pytest.mark.parametrize("kind", ["tuple", "buffer", "in place"])
def test_streams_of_a_lifted_module_are_independent(kind: str) -> None:
    make, _ = KINDS[kind]
    items = _items(4)
    alone, together = _double(make), _double(make)
    single = Online.for_module(lift_state(alone, items[0][0]), MSE, estimator=RTRL())
    several = Online.for_module(
        lift_state(together, items[0][0]), MSE, estimator=Streams(RTRL(), 3), check=True
    )
    for x, y in items:
        single.step(x, y)
        several.step(x.expand(3, IN), y.expand(3, OUT))
    for mine, wanted in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad)


def test_a_copy_of_a_lifted_module_has_a_state_of_its_own_and_can_be_cast() -> None:
    model = lift_state(Kept(), torch.randn(IN))
    copied, state, x = copy.deepcopy(model), model.initial_state(), torch.randn(IN)
    torch.testing.assert_close(copied(x, state), model(x, state))
    assert vars(copied.core)["hidden"] is None
    hidden = copied.double().initial_state()["hidden"]
    assert [leaf.dtype for leaf in hidden] == [torch.float64] * 2


def test_what_cannot_be_lifted_says_why() -> None:
    class Late(Wrapper):
        def advance(self, current: Tensor) -> Tensor:
            trace: Tensor = getattr(self, "trace", 0.0) + current
            self.trace = trace
            return trace

    class Ones(Wrapper):
        def __init__(self) -> None:
            super().__init__()
            self.trace: Any = None

        def advance(self, current: Tensor) -> Tensor:
            trace: Tensor = (torch.ones(UNITS) if self.trace is None else self.trace) + current
            self.trace = trace
            return trace

    x = torch.randn(IN)
    with pytest.raises(StructureError, match=r"got \['trace'\], made in the first forward pass"):
        lift_state(Late(), x)
    with pytest.raises(StructureError, match=r"expected a state that starts with zeros"):
        lift_state(Ones(), x)
    with pytest.raises(StructureError, match="keeps state between calls, got one whose output"):
        lift_state(nn.Sequential(nn.Linear(IN, OUT), nn.BatchNorm1d(OUT)), torch.randn(2, IN))
    with pytest.raises(SettingError, match="expected an nn"):
        lift_state(3, x)  # type: ignore[arg-type]


class Delayed(Wrapper):
    """A delay line of two steps in a deque, and the difference to the input before."""

    def __init__(self) -> None:
        super().__init__()
        self.line = deque([torch.zeros(UNITS)] * 2, maxlen=2)
        self.before = torch.zeros(IN)
        self.count = torch.zeros(())

    def forward(self, input: Tensor) -> Any:
        change, self.before = input - self.before, input
        self.count = self.count + 1
        self.line.append(torch.tanh(self.into(change) + self.line[0] / self.count))
        return self.readout(self.line[1])


def test_a_deque_the_input_before_and_a_counter_are_lifted() -> None:
    """The oracle is backpropagation through the module, which keeps its state on the graph."""
    plain, lifted = Delayed(), lift_state(Delayed(), torch.randn(IN))
    online = Online.for_module(lifted, MSE, estimator=RTRL())
    assert sorted(online.state) == ["before", "count", "line.0", "line.1"]
    total = torch.zeros(())
    for x, y in zip(torch.randn(5, IN), torch.randn(5, OUT), strict=True):
        total = total + MSE(plain(x), y)
        online.step(x, y)
    total.backward()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    for mine, wanted in zip(lifted.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad)


class KeepsLayers(nn.Module):
    """A module that keeps the state of an LSTM, which has its layers in front."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.readout = nn.LSTM(IN, UNITS), nn.Linear(UNITS, OUT)
        self.state: Any = None

    def forward(self, input: Tensor) -> Any:
        hidden, self.state = self.core(input[None], self.state)
        return self.readout(hidden[0])


def test_state_with_layers_in_front_is_lifted_for_one_stream_and_refused_for_several() -> None:
    def online(**settings: Any) -> Online:
        return Online.for_module(lift_state(KeepsLayers(), torch.randn(IN)), MSE, **settings)

    assert torch.isfinite(online().step(torch.randn(IN), torch.randn(OUT)))
    with pytest.raises(StructureError, match="has its layers there"):
        online(streams=2).step(torch.randn(2, IN), torch.randn(2, OUT))
