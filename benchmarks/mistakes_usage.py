"""Mistakes with calls and modules in PyTorch; see `mistakes`."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import torch
from mistakes_model import ZERO, Model, X, Y, made, mse_loss
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
    """`online.reset(mask)` with a mask of the wrong length."""
    made(state=torch.zeros(4, 4), streams=4).reset([True, False])


@mistake
def _() -> Any:
    """`loss.backward()` on the loss that `online.step` returned."""
    loss: Any = made().step(X, Y)
    loss.backward()


@mistake
def _() -> Any:
    """`backward()` twice on one output."""
    loss = mse_loss(made(None)(X), Y)
    loss.backward()
    loss.backward()


@mistake
def _() -> Any:
    """`output.detach()` before a head, so that the core never learns."""
    online, head = made(None), nn.Linear(1, 1)
    for _ in range(1000):
        mse_loss(head(online(X).detach()), Y).backward()


@mistake
def _() -> Any:
    """`optimizer.step()` before `loss.backward()`."""
    online = made(None)
    optimizer = torch.optim.SGD(online.params.values(), lr=0.1)
    mse_loss(online(X), Y).backward()
    output = online(X)
    optimizer.step()
    mse_loss(output, Y).backward()


@mistake
def _() -> Any:
    """`optimizer.zero_grad()` between `backward()` and `optimizer.step()`."""
    online = made()
    optimizer = torch.optim.SGD(online.params.values(), lr=0.1)
    for _ in range(1002):
        online.step(X, Y)
        optimizer.zero_grad()
        optimizer.step()


@mistake
def _() -> Any:
    """`optimizer.zero_grad()` forgotten."""
    online = made()
    optimizer = torch.optim.SGD(online.params.values(), lr=1e-4)
    for _ in range(20):
        online.step(X, Y)
        optimizer.step()


@mistake
def _() -> Any:
    """`x = online(x)`: the output fed back as the next input, with its graph."""
    online = made(None, 2)
    online(online(X))


@mistake
def _() -> Any:
    """Training under `torch.no_grad()`."""
    with torch.no_grad():
        output = made(None)(X)
    mse_loss(output, Y).backward()


@mistake
def _() -> Any:
    """All parameters frozen."""
    Online.for_module(Model().requires_grad_(False), mse_loss, ZERO)


@mistake
def _() -> Any:
    """`module.double()` after `Online` was made."""
    module = Model()
    online = Online.for_module(module, mse_loss, ZERO)
    module.double()
    online.step(X, Y)


@mistake
def _() -> Any:
    """A layer replaced after `Online` was made."""
    module = Model()
    online = Online.for_module(module, mse_loss, ZERO)
    module.readout = nn.Linear(4, 1)
    online.step(X, Y)


@mistake
def _() -> Any:
    """`module.eval()` in the middle of training."""
    module = Model()
    online = Online.for_module(module, mse_loss, ZERO, estimator=UORO())
    online.step(X, Y)
    module.eval()
    online.step(X, Y)
    return "works: the model is checked again; without dropout or BatchNorm nothing changes."


@mistake
def _() -> Any:
    """A tensor on the GPU, where there is none."""
    made().step(X.to("meta"), Y)


@mistake
def _() -> Any:
    """`copy.deepcopy(online)`, and a step of the copy."""
    online = made()
    online.step(X, Y)
    copy.deepcopy(online).step(X, Y)


@mistake
def _() -> Any:
    """`pickle.dumps(online)`."""
    pickle.dumps(made())


@mistake
def _() -> Any:
    """One `Online` trained by two threads at once."""
    caught = list[Exception]()
    second = threading.Event()

    class Slow(Model):
        def forward(self, input: Any, state: Any) -> Any:
            if threading.current_thread() is threading.main_thread() and not second.is_set():
                second.set()
                other = threading.Thread(target=step)
                other.start()
                other.join()
            return super().forward(input, state)

    online = Online.for_module(Slow(), mse_loss, ZERO, estimator=UORO())

    def step() -> None:
        try:
            online.step(X, Y)
        except Exception as error:
            caught.append(error)

    online.step(X, Y)
    raise caught[0]


@mistake
def _() -> Any:
    """No initial state for a module of one's own."""
    Online.for_module(Model(), mse_loss)


@mistake
def _() -> Any:
    """A module that returns its output alone."""

    class Alone(Model):
        def forward(self, input: Any, state: Any) -> Any:
            return self.readout(self.core(input, state))

    Online.for_module(Alone(), mse_loss, ZERO).step(X, Y)


@mistake
def _() -> Any:
    """A module that keeps its state in `self`, without `lift_state`."""

    class Kept(Model):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = torch.zeros(4)

        def forward(self, input: Any, state: Any) -> Any:
            self.hidden = self.core(input, self.hidden)
            return self.readout(self.hidden), state

    Online.for_module(Kept(), mse_loss, ZERO).step(X, Y)


@mistake
def _() -> Any:
    """A loss with `reduction="none"`."""
    made(nn.MSELoss(reduction="none"), 3).step(X, torch.zeros(3))


@mistake
def _() -> Any:
    """`online.step(x)` without the target."""
    made().step(X)


@mistake
def _() -> Any:
    """A state that requires gradients."""
    made(state=torch.zeros(4, requires_grad=True))


@mistake
def _() -> Any:
    """Arrays of JAX or NumPy for the parameters of `uoro_torch.Online`."""
    import numpy as np

    Online(lambda p, s, x: (s, s.sum()), {"w": np.ones(2)}, ZERO)  # type: ignore[dict-item]


@mistake
def _() -> Any:
    """Dropout with `compile=True`."""

    class Dropped(Model):
        def forward(self, input: Any, state: Any) -> Any:
            return super().forward(nn.functional.dropout(input), state)

    Online.for_module(Dropped(), mse_loss, ZERO, compile=True).step(X, Y)
