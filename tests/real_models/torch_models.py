"""Models as PyTorch's users have them, each a module with its loss, state and a few items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

IN, UNITS, OUT = 3, 4, 2

DTYPES = "float32", "float64"


@dataclass(frozen=True)
class TorchModel:
    """A user's model.

    Attributes:
        name: In the table.
        make: Makes the module.
        state: Makes the initial state, in a dtype; ``None`` for zeros that the library knows.
        inputs: Makes one input.
        target: Makes one target.
        loss: Of output and target.
        outcome: ``"unbiased"``, or what is said of a model that has no true derivative.
        dtypes: Those it computes in.
    """

    name: str
    make: Callable[[], nn.Module]
    state: Callable[[torch.dtype], Any] | None = None
    inputs: Callable[[torch.dtype], Any] = lambda dtype: torch.randn(IN, dtype=dtype)
    target: Callable[[torch.dtype], Any] = lambda dtype: torch.randn(OUT, dtype=dtype)
    loss: Callable[[Any, Any], Tensor] = functional.mse_loss
    outcome: str = "unbiased"
    dtypes: tuple[str, ...] = DTYPES


class Read(nn.Module):
    """A recurrent part and a linear readout."""

    def __init__(self, core: nn.Module, features: int = UNITS) -> None:
        super().__init__()
        self.core, self.readout = core, nn.Linear(features, OUT)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        state = self.core(input, state)
        return self.readout(state[0] if isinstance(state, tuple) else state), state


class Normed(Read):
    """With LayerNorm between the layers."""

    def __init__(self) -> None:
        super().__init__(nn.GRUCell(IN, UNITS))
        self.norm = nn.LayerNorm(UNITS)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        state = self.core(input, state)
        return self.readout(self.norm(state)), state


class Characters(nn.Module):
    """An embedding, a cell, and a readout; the embedding may be tied to the readout."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, UNITS)
        self.cell = nn.GRUCell(UNITS, UNITS)
        self.readout = nn.Linear(UNITS, 5)
        if tied:
            self.readout.weight = self.embedding.weight

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        state = self.cell(self.embedding(input), state)
        return self.readout(state), state


class Frozen(Read):
    """The weights from the input are frozen."""

    def __init__(self) -> None:
        super().__init__(nn.RNNCell(IN, UNITS))
        core: Any = self.core
        core.weight_ih.requires_grad_(False)


class BatchNormed(Read):
    """BatchNorm over the pixels of a small image, in training mode, before a cell."""

    def __init__(self) -> None:
        super().__init__(nn.RNNCell(8, UNITS))
        self.convolution, self.norm = nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        features = self.norm(self.convolution(input[None])).reshape(-1)
        return super().forward(features, state)


class Dropped(Read):
    """Dropout on what the cell reads and on what is read of it."""

    def __init__(self) -> None:
        super().__init__(nn.GRUCell(IN, UNITS))

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        state = self.core(functional.dropout(input, 0.5), functional.dropout(state, 0.25))
        return self.readout(state), state


class Counting(Read):
    """An integer in the state: a clock that opens a gate at every second step."""

    def __init__(self) -> None:
        super().__init__(nn.RNNCell(IN, UNITS))

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        clock, hidden = state["clock"], self.core(input, state["hidden"])
        kept = torch.where(clock % 2 == 0, hidden, state["hidden"])
        return self.readout(hidden), {"clock": clock + 1, "hidden": kept}


class Attending(nn.Module):
    """Attention over a window of the last keys and values, which is the state."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.readout = nn.Linear(IN + UNITS, 3 * UNITS), nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        query, key, value = self.project(torch.cat([input, state["read"]])).chunk(3)
        keys = torch.cat([state["keys"][1:], key[None]])
        values = torch.cat([state["values"][1:], value[None]])
        read = functional.scaled_dot_product_attention(query[None, None], keys[None], values[None])
        read = read[0, 0]
        return self.readout(read), {"keys": keys, "values": values, "read": read}


class OldSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, voltage: Tensor) -> Tensor:
        ctx.save_for_backward(voltage)
        return (voltage > 0).to(voltage.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (voltage,) = ctx.saved_tensors
        slope: Tensor = 1 / (1 + 5 * voltage.abs()) ** 2
        return gradient * slope


class _NewSpike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(voltage: Tensor) -> Tensor:
        return (voltage > 0).to(voltage.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (voltage,) = ctx.saved_tensors
        slope: Tensor = 1 / (1 + 5 * voltage.abs()) ** 2
        return gradient * slope


class Spiking(nn.Module):
    """Leaky integrate-and-fire units with a surrogate gradient."""

    def __init__(self, spike: Any) -> None:
        super().__init__()
        self.spike = spike
        self.into, self.back = nn.Linear(IN, UNITS), nn.Linear(UNITS, UNITS)
        self.readout = nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        voltage = 0.9 * state["voltage"] + self.into(input) + self.back(state["spikes"])
        spikes = self.spike.apply(voltage - 1.0)
        return self.readout(spikes), {"voltage": voltage - spikes.detach(), "spikes": spikes}


class Diagonal(nn.Module):
    """A linear recurrent unit: a complex state that turns and decays."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.angle = nn.Parameter(torch.randn(UNITS)), nn.Parameter(torch.randn(UNITS))
        self.into, self.readout = nn.Linear(IN, 2 * UNITS), nn.Linear(2 * UNITS, OUT)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        turn = torch.polar(torch.exp(-torch.exp(self.decay)), self.angle)
        real, imaginary = self.into(input).chunk(2)
        state = turn * state + torch.complex(real, imaginary)
        return self.readout(torch.cat([state.real, state.imag])), state


class Ode(nn.Module):
    """One Euler step of a continuous-time network."""

    def __init__(self) -> None:
        super().__init__()
        self.field, self.readout = nn.Linear(IN + UNITS, UNITS), nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        slope = torch.tanh(self.field(torch.cat([input, state]))) - state
        state = state + 0.1 * slope
        return self.readout(state), state


class Stack(nn.Module):
    """Two cells, the states of which are in a nested dict."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper = nn.GRUCell(IN, 3), nn.LSTMCell(3, 2)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        lower = self.lower(input, state["lower"])
        hidden, cell = self.upper(lower, (state["upper"]["h"], state["upper"]["c"]))
        return hidden, {"lower": lower, "upper": {"h": hidden, "c": cell}}


def _parametrized() -> nn.Module:
    model = Read(nn.RNNCell(IN, UNITS))
    parametrizations.orthogonal(model.core, "weight_hh", use_trivialization=False)
    return model


def _weight_normed() -> nn.Module:
    model = Read(nn.GRUCell(IN, UNITS))
    parametrizations.weight_norm(model.readout)
    return model


def zeros(*shape: int) -> Callable[[torch.dtype], Any]:
    """Return a function that makes zeros in a dtype."""
    return lambda dtype: torch.zeros(shape, dtype=dtype)


def _pair(dtype: torch.dtype) -> Any:
    return torch.zeros(UNITS, dtype=dtype), torch.zeros(UNITS, dtype=dtype)


def _target(units: int) -> Callable[[torch.dtype], Any]:
    return lambda dtype: torch.randn(units, dtype=dtype)


def _stock(name: str, make: Callable[[], nn.Module]) -> TorchModel:
    return TorchModel(name, make, target=_target(UNITS))


CHARACTERS: Any = {
    "state": zeros(UNITS),
    "inputs": lambda dtype: torch.randint(5, ()),
    "target": lambda dtype: torch.randint(5, ()),
    "loss": functional.cross_entropy,
}

SPIKES: Any = {
    "state": lambda dtype: {
        "voltage": torch.full((UNITS,), 0.7, dtype=dtype),
        "spikes": torch.zeros(UNITS, dtype=dtype),
    },
    "outcome": "surrogate",
}

TORCH_MODELS = (
    _stock("nn.RNNCell", lambda: nn.RNNCell(IN, UNITS)),
    _stock("nn.GRUCell", lambda: nn.GRUCell(IN, UNITS)),
    _stock("nn.LSTMCell", lambda: nn.LSTMCell(IN, UNITS)),
    _stock("nn.RNN, 2 layers", lambda: nn.RNN(IN, UNITS, 2)),
    _stock("nn.GRU, 2 layers", lambda: nn.GRU(IN, UNITS, 2)),
    _stock("nn.LSTM", lambda: nn.LSTM(IN, UNITS)),
    _stock("nn.LSTM, 2 layers, dropout between", lambda: nn.LSTM(IN, UNITS, 2, dropout=0.5)),
    TorchModel("nn.LSTM, projected", lambda: nn.LSTM(IN, UNITS, proj_size=2), target=_target(2)),
    TorchModel("GRUCell and readout", lambda: Read(nn.GRUCell(IN, UNITS)), zeros(UNITS)),
    TorchModel("LSTMCell and readout, two carries", lambda: Read(nn.LSTMCell(IN, UNITS)), _pair),
    TorchModel(
        "GRU under LSTM, nested dicts",
        Stack,
        lambda dtype: {
            "lower": torch.zeros(3, dtype=dtype),
            "upper": {"h": torch.zeros(2, dtype=dtype), "c": torch.zeros(2, dtype=dtype)},
        },
    ),
    TorchModel("LayerNorm", Normed, zeros(UNITS)),
    TorchModel("Embedding, cross-entropy", lambda: Characters(tied=False), **CHARACTERS),
    TorchModel("tied weights", lambda: Characters(tied=True), **CHARACTERS),
    TorchModel("frozen parameters", Frozen, zeros(UNITS)),
    TorchModel("orthogonal parametrization", _parametrized, zeros(UNITS)),
    TorchModel("weight norm", _weight_normed, zeros(UNITS)),
    TorchModel(
        "BatchNorm in training mode",
        BatchNormed,
        zeros(UNITS),
        lambda dtype: torch.randn(1, 3, 3, dtype=dtype),
    ),
    TorchModel("dropout", Dropped, zeros(UNITS)),
    TorchModel(
        "an integer in the state",
        Counting,
        lambda dtype: {"clock": torch.tensor(0), "hidden": torch.zeros(UNITS, dtype=dtype)},
    ),
    TorchModel(
        "attention over a window",
        Attending,
        lambda dtype: {
            "keys": torch.randn(3, UNITS, dtype=dtype),
            "values": torch.randn(3, UNITS, dtype=dtype),
            "read": torch.zeros(UNITS, dtype=dtype),
        },
    ),
    TorchModel("spikes, old-style Function", lambda: Spiking(OldSpike), **SPIKES),
    TorchModel("spikes, new-style Function", lambda: Spiking(_NewSpike), **SPIKES),
    TorchModel("ODE step", Ode, zeros(UNITS)),
    TorchModel(
        "linear recurrent unit, complex state",
        Diagonal,
        lambda dtype: torch.zeros(UNITS, dtype=dtype.to_complex()),
    ),
)
