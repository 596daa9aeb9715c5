"""PyTorch modules that run, keep or change things in ways of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from uoro_torch import lift_state

from real_models.torch_models import IN, OUT, UNITS, OldSpike, Read, TorchModel, zeros


class Checkpointed(Read):
    """A cell under non-reentrant `checkpoint`."""

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        run: Any = checkpoint
        state = run(self.core, input, state, use_reentrant=False)
        return self.readout(state), state


class Gated(nn.Module):
    """A cell whose weights are used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(IN, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, input: Tensor, state: Tensor) -> Tensor:
        """Take one step."""
        back = self.back(state)
        return torch.tanh(self.into(input) + back) * torch.sigmoid(back)


class InADict(nn.Module):
    """Parameters that are registered, and used from a dict."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {"back": (UNITS, UNITS), "into": (UNITS, IN), "out": (OUT, UNITS)}
        self.own = dict[str, Tensor]()
        for name, shape in shapes.items():
            self.own[name] = nn.Parameter(torch.randn(shape) / 2)
            self.register_parameter(name, self.own[name])  # type: ignore[arg-type]  # It is one.

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        state = torch.tanh(self.own["back"] @ state + self.own["into"] @ input)
        return self.own["out"] @ state, state


class Neuron(nn.Module):
    """A leaky integrate-and-fire neuron with its potential in a buffer, which it may be given."""

    potential: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("potential", torch.zeros(0), persistent=False)

    def forward(self, current: Tensor, potential: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take one step."""
        if potential is not None:
            self.potential = potential
        if self.potential.shape != current.shape:
            self.potential = torch.zeros_like(current)
        reset = (self.potential > 0.3).to(current.dtype)
        self.potential = 0.9 * self.potential + current - 0.3 * reset
        spike: Any = OldSpike
        return spike.apply(self.potential - 0.3), self.potential


class Mirroring(nn.Module):
    """A neuron with its potential passed in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.neuron, self.readout = nn.Linear(IN, UNITS), Neuron(), nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        spikes, state = self.neuron(self.into(input), state)
        return self.readout(spikes), state


class Keeping(nn.Module):
    """A neuron that keeps its potential."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.neuron, self.readout = nn.Linear(IN, UNITS), Neuron(), nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor) -> Tensor:
        """Take one step."""
        output: Tensor = self.readout(self.neuron(self.into(input))[0])
        return output


class Stateful(nn.Module):
    """An LSTM cell that keeps its state in an attribute, ``None`` at first."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.readout = nn.LSTMCell(IN, UNITS), nn.Linear(UNITS, OUT)
        self.state: Any = None

    def forward(self, input: Tensor) -> Tensor:
        """Take one step."""
        self.state = self.cell(input, self.state)
        output: Tensor = self.readout(self.state[0])
        return output


class Clipping(Read):
    """A hook on the state clips what passes through it."""

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        state = self.core(input, state)
        state.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))
        return self.readout(state), state


def _cell() -> nn.Module:
    return Read(nn.GRUCell(IN, UNITS))


def _compiled() -> nn.Module:
    core: Any = torch.compile(Gated(), backend="aot_eager")
    return Read(core)


def _normed(norm: Callable[[nn.Module], Any]) -> nn.Module:
    model = Read(Gated())
    norm(model.core.back)  # type: ignore[arg-type]  # A module.
    return model


def _hooked() -> nn.Module:
    model = _cell()
    for param in model.parameters():
        param.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    return model


def scripted() -> nn.Module:
    """Return a module with a scripted cell."""
    script: Any = torch.jit.script
    return Read(script(nn.GRUCell(IN, UNITS)))


def _lifted(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: lift_state(make(), torch.zeros(IN))


ODD_MODELS = (
    TorchModel("checkpoint", lambda: Checkpointed(nn.GRUCell(IN, UNITS)), zeros(UNITS)),
    TorchModel("a gated cell under torch.compile", _compiled, zeros(UNITS)),
    TorchModel("spectral_norm", lambda: _normed(nn.utils.spectral_norm), zeros(UNITS)),
    TorchModel(
        "parametrizations.spectral_norm",
        lambda: _normed(nn.utils.parametrizations.spectral_norm),
        zeros(UNITS),
    ),
    TorchModel("hooks that clip, on the parameters", _hooked, zeros(UNITS)),
    TorchModel("parameters in a dict", InADict, zeros(UNITS)),
    TorchModel(
        "a neuron that mirrors its state in a buffer",
        Mirroring,
        zeros(UNITS),
        outcome="surrogate",
    ),
    TorchModel("a neuron's buffer, lifted", _lifted(Keeping), outcome="surrogate"),
    TorchModel("an LSTM cell's attribute, lifted", _lifted(Stateful)),
)
