"""Cells under `torch.compile` or in a checkpoint, inside models of `Online`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from real_models.torch_models import IN, OUT, UNITS, Read
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from uoro_torch import Online

from uoro import RTRL, UORO, JointUORO, Streams
from uoro.errors import DerivativeError, SettingError

MSE = functional.mse_loss

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning"
)  # of PyTorch's compiler


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    torch.compiler.reset()


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(IN, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, input: Tensor, state: Tensor) -> Tensor:
        back = self.back(state)
        return torch.tanh(self.into(input) + back) * torch.sigmoid(back)


def _plain_and(compile: Callable[[Any], Any]) -> tuple[Any, Any]:
    plain, compiled = (Read(Gated()).double() for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    compiled.core = compile(compiled.core)
    return plain, compiled


def _assert_same_gradient(plain: Any, compiled: Any, estimator: Any) -> list[str | None]:
    """Step both with the same signs; the plain one is the oracle."""
    lead = (estimator.count,) if isinstance(estimator, Streams) else ()
    inputs, targets = torch.randn(4, *lead, IN).double(), torch.randn(4, *lead, OUT).double()
    routes = list[str | None]()
    for model in (plain, compiled):
        state = torch.zeros(*lead, UNITS).double()
        online = Online.for_module(model, MSE, state, estimator=estimator)
        for x, y in zip(inputs, targets, strict=True):
            online.step(x, y)
        routes.append(online.dynamics.route)
    for mine, wanted in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad, rtol=1e-9, atol=1e-12)
    return routes


@pytest.mark.parametrize(
    "estimator",
    [UORO(), UORO(rank=4), RTRL(), Streams(UORO(rank=2), 3), Streams(JointUORO(2), 3)],
    ids=str,
)
def test_a_compiled_gated_cell_is_the_plain_one(estimator: Any) -> None:
    """Under a `TorchFunctionMode` compiled cells return wrong numbers."""
    _assert_same_gradient(
        *_plain_and(lambda core: torch.compile(core, backend="aot_eager")), estimator
    )


def test_a_cell_compiled_by_default_is_the_plain_one() -> None:
    """What Inductor compiles has no forward mode and no second derivative."""
    routes = _assert_same_gradient(
        *_plain_and(lambda core: torch.compile(core, dynamic=False)), Streams(UORO(), 3)
    )
    assert routes == ["double vjp", "double vjp without fused kernels"]


def test_a_cell_that_was_trained_before_is_the_plain_one() -> None:
    plain, compiled = _plain_and(lambda core: torch.compile(core, backend="aot_eager"))
    for _ in range(2):
        compiled(torch.randn(3, IN).double(), torch.zeros(3, UNITS).double())[0].sum().backward()
    compiled.zero_grad()
    _assert_same_gradient(plain, compiled, Streams(UORO(), 3))


@pytest.mark.filterwarnings("ignore:None of the inputs:UserWarning")
@pytest.mark.parametrize("check", [True, False])
def test_a_reentrant_checkpoint_is_refused_with_the_way_out(check: bool) -> None:
    class Checked(Read):
        def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
            state = checkpoint(self.core, input, state, use_reentrant=True)
            return self.readout(state), state

    online = Online.for_module(
        Checked(Gated()), MSE, torch.zeros(UNITS), check=check, estimator=UORO()
    )
    with pytest.raises(DerivativeError, match=r"Pass use_reentrant=False to checkpoint"):
        online.step(torch.randn(IN), torch.randn(OUT))


def test_a_step_that_cannot_be_compiled_is_refused() -> None:
    class Broken(Read):
        def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
            state = checkpoint(self.core, input, state, use_reentrant=False)
            return self.readout(state), state

    online = Online.for_module(
        Broken(Gated()), MSE, torch.zeros(UNITS), compile=True, estimator=UORO()
    )
    with pytest.raises(SettingError, match=r"got BackendCompilerFailed: .* Leave compile out\."):
        online.step(torch.randn(IN), torch.randn(OUT))
