"""UORO as one would write it in an evening on `torch.func`, and `Online`; for ``peers.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from peer import ALPHABET, RATE, Called
from torch import Tensor
from uoro_torch import Online, TorchBackend

from uoro import UORO
from uoro.lab.bench.torch_cells import rnn
from uoro.models import CELLS, SymbolModel

ITEMS = 16


class Naive:
    """Algorithm 1 by one jvp and two vjps of `torch.func`."""

    def __init__(self, params: Any, state: Any) -> None:
        self.params, self.state = params, state
        self.tangent = {k: torch.zeros_like(s) for k, s in state.items()}
        self.cotangent = {k: torch.zeros_like(p) for k, p in params.items()}

    def step(self, item: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Take one step; give the loss and the gradient."""
        params, state = self.params, self.state
        outcome: Any = torch.func.jvp(lambda s: rnn(params, s, item), (state,), (self.tangent,))
        (next_state, loss), (pushed, rate) = outcome
        pull: Any = torch.func.vjp(lambda p: rnn(p, state, item), params)[1]
        (immediate,) = pull(
            ({k: torch.zeros_like(s) for k, s in next_state.items()}, torch.ones_like(loss))
        )
        signs = {k: torch.randint_like(s, 2) * 2 - 1 for k, s in state.items()}
        (pulled,) = pull((signs, torch.zeros_like(loss)))
        gradient = {k: immediate[k] + rate * self.cotangent[k] for k in params}
        rho0 = (_norm(self.cotangent) / (_norm(pushed) + 1e-7)).sqrt() + 1e-7
        rho1 = (_norm(pulled) / (_norm(signs) + 1e-7)).sqrt() + 1e-7
        self.tangent = {k: rho0 * pushed[k] + rho1 * signs[k] for k in state}
        self.cotangent = {k: self.cotangent[k] / rho0 + pulled[k] / rho1 for k in params}
        self.state = next_state
        return loss, gradient

    def learn(self, item: Any) -> None:
        """Take one step and update."""
        _, gradient = self.step(item)
        self.params = {k: p - RATE * gradient[k] for k, p in self.params.items()}


def _norm(tree: dict[str, Tensor]) -> Tensor:
    return torch.stack([leaf.square().sum() for leaf in tree.values()]).sum().sqrt()


def works(units: int, symbols: Any) -> list[tuple[str, Called, Called]]:
    """Make both, hold one against the other, and give what is to be timed."""
    torch.set_num_threads(1)
    backend = TorchBackend()
    host = SymbolModel((CELLS["rnn"](units),), ALPHABET).init(np.random.default_rng(0))
    params, state = (
        dict(backend.named_leaves(backend.from_host(tree, dtype="float32"))) for tree in host
    )
    stream = torch.as_tensor(symbols)
    items = [{"symbol": stream[i], "target": stream[i + 1]} for i in range(ITEMS)]
    _require_alike(params, state, items)

    trained: Any = {k: p.clone().requires_grad_() for k, p in params.items()}
    online = Online(rnn, trained, state, estimator=UORO())
    optimizer = torch.optim.SGD(trained.values(), lr=RATE)
    naive = Naive(params, state)

    def ours() -> None:
        for item in items:
            online.step(item)
            optimizer.step()
            optimizer.zero_grad()

    def its() -> None:
        for item in items:
            naive.learn(item)

    return [("one step a call, nothing compiled", Called(ITEMS, ours), Called(ITEMS, its))]


def _require_alike(params: Any, state: Any, items: list[Any]) -> None:
    """See that both have equal losses, and equal gradients where no sign has to do with them."""
    trained = {k: p.clone().requires_grad_() for k, p in params.items()}
    online, naive = Online(rnn, trained, state, estimator=UORO()), Naive(params, state)
    for step, item in enumerate(items[:8]):
        loss, gradient = naive.step(item)
        torch.testing.assert_close(online.step(item), loss)
        for name, param in trained.items():
            assert param.grad is not None
            assert torch.isfinite(gradient[name]).all(), name
            if step == 0 or name.startswith("readout"):
                torch.testing.assert_close(param.grad, gradient[name])
            param.grad = None
