"""Mistakes with numbers, states and shapes in PyTorch; see `mistakes`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from mistakes_model import NAN, ZERO, X, Y, made, mse_loss, plain_loss
from torch import nn
from uoro_torch import Online

from uoro import UORO

MISTAKES: list[Callable[[], Any]] = []


def mistake(function: Callable[[], Any]) -> Callable[[], Any]:
    """Add a function to the list."""
    MISTAKES.append(function)
    return function


@mistake
def _() -> Any:
    """`online.step(x, y)` with a NaN in `x`."""
    online = made()
    online.step(X, Y)
    online.step(X * NAN, Y)


@mistake
def _() -> Any:
    """`online.step(x, y)` with an infinite target."""
    made().step(X, Y * math.inf)


@mistake
def _() -> Any:
    """`online(x)` with a NaN in `x`."""
    made(None)(X * NAN)


@mistake
def _() -> Any:
    """A loss of one's own that is NaN: `mse_loss(online(x), y).backward()`."""
    mse_loss(made(None)(X), Y * NAN).backward()


@mistake
def _() -> Any:
    """A NaN, with `on_nonfinite="skip"`."""
    made(on_nonfinite="skip").step(X * NAN, Y)


@mistake
def _() -> Any:
    """A NaN that only the estimate can get over, with `on_nonfinite="reset"`."""
    made(on_nonfinite="reset").step(X * NAN, Y)


@mistake
def _() -> Any:
    """A sensor that broke: a hundred items of NaN in a row, with `on_nonfinite="skip"`."""
    online = made(on_nonfinite="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(101):
            online.step(X * NAN, Y)


@mistake
def _() -> Any:
    """A derivative that is infinite: `sqrt` of an output at zero."""
    params = {"w": torch.ones(2, requires_grad=True)}
    online = Online(lambda p, s, x: (s, (p["w"] * x).sum().sqrt()), params, ZERO, estimator=UORO())
    online.step(torch.zeros(2))


@mistake
def _() -> Any:
    """A learning rate of 10."""
    online = made(plain_loss)
    optimizer = torch.optim.SGD(online.params.values(), lr=10.0)
    for _ in range(500):
        online.step(torch.randn(2), torch.randn(1))
        optimizer.step()
        optimizer.zero_grad()


@mistake
def _() -> Any:
    """The stream changes its scale: the loss grows ten thousandfold."""
    online = made(plain_loss)
    for step in range(384):
        online.step(X, Y if step < 256 else Y + 100.0)
        for param in online.params.values():
            param.grad = None


@mistake
def _() -> Any:
    """A hidden state that does not forget, so that the influence estimate grows and grows."""
    params = {"w": torch.ones(2, requires_grad=True)}

    def transition(params: Any, state: Any, x: Any) -> Any:
        return 1.08 * state + 1e-6 * params["w"] * x, 1e-9 * torch.tanh(state).sum()

    online = Online(transition, params, torch.ones(2), estimator=UORO())
    for _ in range(400):
        online.step(torch.ones(2))


@mistake
def _() -> Any:
    """`online.state = torch.zeros(4)` at the end of an episode, in place of `reset()`."""
    online = made()
    online.step(X, Y)
    online.state = torch.zeros(4)
    online.step(X, Y)


@mistake
def _() -> Any:
    """`online.state.zero_()`."""
    online = made()
    online.step(X, Y)
    online.state.zero_()
    online.step(X, Y)


@mistake
def _() -> Any:
    """`online.state = torch.zeros(5)` for four units."""
    online = made()
    online.step(X, Y)
    online.state = torch.zeros(5)
    online.step(X, Y)


@mistake
def _() -> Any:
    """`online.reset()` forgotten between two recordings."""
    online = made()
    online.step(X, Y)
    online.step(-X, -Y)
    return (
        "nothing: state and estimate go on from one into the other; where an episode ends, the "
        "data know alone."
    )


@mistake
def _() -> Any:
    """An output of before `reset()`, whose loss comes after it."""
    online = made(None)
    output = online(X)
    online.reset()
    mse_loss(output, Y).backward()
    return "works: the gradient is that of the step that made the output."


@mistake
def _() -> Any:
    """A target of shape (N, 1) for an output of shape (N,), which broadcast to (N, N)."""
    made(plain_loss, 4).step(X, torch.zeros(4, 1))


@mistake
def _() -> Any:
    """Four targets for one output."""
    made(plain_loss).step(X, torch.zeros(4))


@mistake
def _() -> Any:
    """The same with `torch.nn.functional.mse_loss`."""
    made(mse_loss, 4).step(X, torch.zeros(4, 1))


@mistake
def _() -> Any:
    """A target in float64 for an output in float32."""
    loss = made().step(X, Y.double())
    return f"works: the loss has dtype {loss.dtype}, gradients that of the parameters."


@mistake
def _() -> Any:
    """An input of integers."""
    made().step(torch.tensor([1, 2]), Y)


@mistake
def _() -> Any:
    """A list for an input."""
    made().step([0.5, -1.0], Y)


@mistake
def _() -> Any:
    """Sixteen steps as one item of a module of one's own."""
    made().step(torch.randn(16, 2), torch.randn(16, 1))


@mistake
def _() -> Any:
    """Sixteen steps as one item of `nn.GRU`."""
    Online.for_module(nn.GRU(2, 4), mse_loss).step(torch.randn(16, 2), torch.randn(16, 4))


@mistake
def _() -> Any:
    """A packed sequence for an item."""
    pack = nn.utils.rnn.pack_sequence([torch.randn(3, 2)])
    Online.for_module(nn.GRU(2, 4))(pack)


@mistake
def _() -> Any:
    """A batch of three rows for one stream of `nn.GRUCell`."""
    Online.for_module(nn.GRUCell(2, 4), mse_loss).step(torch.randn(3, 2), torch.randn(3, 4))


@mistake
def _() -> Any:
    """Three rows for four streams."""
    online = made(state=torch.zeros(4, 4), streams=4)
    online.step(torch.randn(3, 2), torch.randn(3, 1))


@mistake
def _() -> Any:
    """A state without rows for four streams."""
    made(streams=4).step(torch.randn(4, 2), torch.randn(4, 1))


@mistake
def _() -> Any:
    """BatchNorm over the rows of several streams."""

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core, self.norm = nn.GRUCell(2, 4), nn.BatchNorm1d(4)

        def forward(self, input: Any, state: Any) -> Any:
            state = self.norm(self.core(input, state))
            return state, state

    online = Online.for_module(Normed(), mse_loss, torch.zeros(3, 4), streams=3)
    online.step(torch.randn(3, 2), torch.randn(3, 4))
