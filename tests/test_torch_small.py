"""Small models on one thread, and PyTorch's own layers under `compile=True`."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn
from uoro_torch import Online

from uoro import RTRL, UORO, JointUORO, KroneckerSum, Streams

MSE = nn.functional.mse_loss


@pytest.mark.parametrize(
    "kind",
    [nn.LSTM, *(pytest.param(kind, marks=pytest.mark.thorough) for kind in (nn.GRU, nn.RNN))],
)
def test_layers_of_pytorch_are_compiled_and_said_to_be(
    kind: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = torch.compile

    def quickly(function: Any, **options: Any) -> Any:
        options.pop("options")
        return real(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", quickly)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # As in a script.
    torch._dynamo.reset()
    core = kind(2, 3, 2).double()
    plain, compiled = (
        Online.for_module(core, MSE, estimator=UORO(), compile=compile) for compile in (False, True)
    )
    for _ in range(3):
        x, y = torch.randn(2).double(), torch.randn(3).double()
        gradients = []
        for online in (plain, compiled):
            core.zero_grad()
            gradients.append([online.step(x, y), *(p.grad.clone() for p in core.parameters())])
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.config.allow_rnn
    assert torch.backends.mkldnn.enabled
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "compiling the step, for about a minute" in said


class Counting(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.cell, self.seen = nn.RNNCell(2, units), set[int]()

    def forward(self, input: Any, state: Any) -> Any:
        self.seen.add(torch.get_num_threads())
        if bool(input.isnan().any()):
            raise ZeroDivisionError
        state = self.cell(input, state)
        return state, state


def test_a_small_model_steps_on_one_thread_and_a_large_one_on_all() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for units, estimator, threads in (
            (8, UORO(), 1), (600, UORO(), 3), (400, UORO(), 1), (400, JointUORO(2), 3),
            (8, RTRL(), 1), (100, KroneckerSum(2), 3), (8, Streams(UORO(), 4), 1),
            (300, Streams(UORO(), 4), 3),
        ):  # fmt: skip
            lead = () if not isinstance(estimator, Streams) else (4,)
            model = Counting(units)
            state = torch.zeros(*lead, units)
            online = Online.for_module(model, state=state, estimator=estimator, check=False)
            if units in (100, 600, 300, 400):
                assert online._stepper.threads.single == (threads == 1)
                continue
            online(torch.randn(*lead, 2)).sum().backward()
            assert model.seen == {threads}
            assert torch.get_num_threads() == 3
            with pytest.raises(ZeroDivisionError):
                online(torch.randn(*lead, 2) * torch.nan)
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
