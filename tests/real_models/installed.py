"""Models of libraries for spiking and liquid networks, where those are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn
from uoro_torch import lift_state

from real_models.torch_models import IN, OUT, UNITS, TorchModel, zeros


class Between(nn.Module):
    """A recurrent layer between two linear ones, with or without a state of its own."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.into, self.layer, self.readout = nn.Linear(IN, UNITS), layer, nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, *state: Any) -> Any:
        """Take one step."""
        returned = self.layer(3 * self.into(input), *state)
        spikes, *following = returned if isinstance(returned, tuple) else (returned,)
        output = self.readout(spikes.to(input.dtype))
        return (output, following[0]) if state else output


class Sequence(nn.Module):
    """A layer of ncps, given a sequence of one step."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor, state: Any) -> Any:
        """Take one step."""
        output, state = self.layer(input[None, None], state)
        return output[0], state


def _snntorch(**options: Any) -> nn.Module:
    snntorch = import_module("snntorch")
    spike = import_module("snntorch.surrogate").fast_sigmoid(slope=5)
    return Between(snntorch.Leaky(beta=0.9, threshold=0.3, spike_grad=spike, **options))


def _spikingjelly() -> nn.Module:
    neuron = import_module("spikingjelly.activation_based.neuron")
    return Between(neuron.LIFNode(v_threshold=0.3))


def _norse() -> nn.Module:
    return Between(import_module("norse.torch").LIFCell())


def _norse_state(dtype: torch.dtype) -> Any:
    parts = torch.full((UNITS,), 0.7, dtype=dtype), torch.zeros(UNITS, dtype=dtype)
    return import_module("norse.torch").LIFFeedForwardState(*parts)


def _liquid(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        ncps = import_module("ncps.torch")
        if name == "LTC":
            return Sequence(ncps.LTC(IN, UNITS, return_sequences=False))
        return Sequence(ncps.CfC(IN, UNITS, proj_size=OUT, return_sequences=False))

    return make


def _lifted(make: Callable[..., nn.Module], **options: Any) -> Callable[[], nn.Module]:
    return lambda: lift_state(make(**options), torch.ones(IN))


def _units(units: int) -> Callable[[torch.dtype], Any]:
    return lambda dtype: torch.randn(units, dtype=dtype)


SINGLE: dict[str, Any] = {"outcome": "surrogate", "dtypes": ("float32",)}

_MODELS: dict[str, list[tuple[str, Callable[[], nn.Module], dict[str, Any]]]] = {
    "snntorch": [
        (
            "Leaky, potential in and out",
            _snntorch,
            {"state": _units(UNITS), **SINGLE},
        ),
        (
            "Leaky, init_hidden=True, lifted",
            _lifted(_snntorch, init_hidden=True),
            SINGLE,
        ),
    ],
    "spikingjelly": [("LIFNode, lifted", _lifted(_spikingjelly), {"outcome": "surrogate"})],
    "norse": [("LIFCell", _norse, {"state": _norse_state, "outcome": "surrogate"})],
    "ncps": [
        ("LTC", _liquid("LTC"), {"state": zeros(1, UNITS), "target": _units(UNITS)}),
        ("CfC", _liquid("CfC"), {"state": zeros(1, UNITS)}),
    ],
}


def _installed() -> list[TorchModel]:
    found = list[TorchModel]()
    for package, models in _MODELS.items():
        try:
            number = version(package)
        except PackageNotFoundError:
            continue
        found += [
            TorchModel(f"{package} {number}: {name}", make, **options)
            for name, make, options in models
        ]
    return found


INSTALLED_MODELS = _installed()
