"""Buffers that a module leaves on a graph: accepted if written before they are read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from real_models.torch_models import IN, OUT, UNITS
from torch import Tensor, nn
from torch.nn import functional
from uoro_torch import Online

from uoro import RTRL, UORO, Streams
from uoro.errors import DerivativeError

MSE = functional.mse_loss


def _items(steps: int) -> Any:
    torch.manual_seed(0)
    return [(torch.randn(IN).double(), torch.randn(OUT).double()) for _ in range(steps)]


class Mirroring(nn.Module):
    """A neuron as in snnTorch with its state passed in and out, and mirrored in a buffer."""

    potential: Tensor
    earlier: Tensor

    def __init__(self, reads: str = "nothing") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.readout, self.reads = nn.Linear(IN, UNITS), nn.Linear(UNITS, OUT), reads
        self.register_buffer("potential", torch.zeros(0), persistent=False)
        self.register_buffer("earlier", torch.zeros(UNITS))

    def forward(self, input: Tensor, state: Tensor) -> Any:
        if self.reads == "output":
            input = input + self.earlier.sum()
        if self.reads == "late" and self.potential.shape == state.shape:
            self.earlier = self.potential
        self.potential = state
        self.potential = 0.9 * self.potential + torch.tanh(self.into(input))
        if self.reads == "output":
            self.earlier = self.potential
        return self.readout(self.potential), self.potential


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("streams", [None, 2])
def test_a_buffer_written_before_it_is_read_is_accepted(streams: int | None, check: bool) -> None:
    lead = () if streams is None else (streams,)
    model = Mirroring().double()
    estimator: Any = RTRL() if streams is None else Streams(RTRL(), streams)
    online = Online.for_module(
        model, MSE, torch.zeros(*lead, UNITS).double(), estimator=estimator, check=check
    )
    reference, state, total = Mirroring().double(), torch.zeros(UNITS).double(), torch.zeros(())
    for x, y in _items(4):
        output, state = reference(x, state)
        total = total + MSE(output, y)
        online.step(x.expand(*lead, IN), y.expand(*lead, OUT))
        torch.testing.assert_close(model.potential, online.state)
    total.backward()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    for mine, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("reads", ["output", "late"])
def test_a_buffer_that_a_later_step_reads_is_named(reads: str, check: bool) -> None:
    online = Online.for_module(
        Mirroring(reads), MSE, torch.zeros(UNITS), check=check, estimator=UORO()
    )
    with pytest.raises(DerivativeError, match=r"which depend on .*lift_state does"):
        online.step(torch.randn(IN), torch.randn(OUT))
