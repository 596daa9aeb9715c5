"""snnTorch's function called RTRL, on its own neurons; for ``peers_conform.py``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from carried import always, judge, quoted, report
from torch import nn

snntorch: Any = import_module("snntorch")
functional: Any = import_module("snntorch.functional")
utils: Any = import_module("snntorch.utils")

INPUTS, HIDDEN, CLASSES, STEPS = 3, 6, 4, 8

NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "Leaky": lambda: nn.Sequential(
        nn.Linear(INPUTS, CLASSES), snntorch.Leaky(beta=0.9, init_hidden=True, output=True)
    ),
    "Leaky × 2": lambda: nn.Sequential(
        nn.Linear(INPUTS, HIDDEN),
        snntorch.Leaky(beta=0.9, init_hidden=True),
        nn.Linear(HIDDEN, CLASSES),
        snntorch.Leaky(beta=0.9, init_hidden=True, output=True),
    ),
}


class Recorded(torch.optim.SGD):
    """An optimizer that adds up the gradients it is given, and leaves the params alone."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.0)
        self.total = [torch.zeros_like(p) for group in self.param_groups for p in group["params"]]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is given
        """Add the gradients to the total."""
        params = (p for group in self.param_groups for p in group["params"])
        self.total = [
            total if param.grad is None else total + param.grad
            for total, param in zip(self.total, params, strict=True)
        ]


def rows() -> list[dict[str, Any]]:
    """Measure the function on every network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the module as a whole
        backprop = import_module("snntorch.backprop")
    found = []
    for kind, made in NETWORKS.items():
        torch.manual_seed(0)
        net = made()
        data, targets = torch.rand(1, INPUTS), torch.tensor([1])
        criterion = functional.mse_membrane_loss()

        given = net, backprop, data, targets, criterion
        exact, alone = (
            _by_backpropagation(net, data, targets, criterion, alone=each) for each in (False, True)
        )
        got = _called("RTRL", *given)
        row = judge(exact, alone, always(got), 1)
        says = quoted("RTRL is equivalent to TBPTT for the case where ``K = 1``.", backprop.RTRL)
        found.append({"network": kind, "algorithm": "backprop.RTRL", "says": says, **row})
        # Backpropagation through all steps is theirs too; it must be what is called exact here.
        theirs = _called("TBPTT", *given, K=STEPS)
        scale = max(float(abs(leaf).max()) for leaf in exact.values())
        for name, leaf in theirs.items():
            assert abs(STEPS * leaf - exact[name]).max() <= 1e-5 * scale, (kind, name)
    return found


def _called(
    name: str, net: nn.Module, backprop: Any, data: Any, targets: Any, criterion: Any, **more: int
) -> dict[str, Any]:
    """Return the sum of gradients that one of their functions gives to the optimizer."""
    optimizer = Recorded(net.parameters())
    function = getattr(backprop, name)
    batches = [(data, targets)]
    function(net, batches, optimizer, criterion, num_steps=STEPS, time_var=False, **more)
    return _named(net, optimizer.total)


def _named(net: nn.Module, leaves: Any) -> dict[str, Any]:
    names = [name for name, _ in net.named_parameters()]
    return {name: leaf.detach().double().numpy() for name, leaf in zip(names, leaves, strict=True)}


def _by_backpropagation(
    net: nn.Module, data: Any, targets: Any, criterion: Any, *, alone: bool
) -> dict[str, Any]:
    """Compute the sum of gradients by backpropagation through the network, or step by step."""
    utils.reset(net)
    losses = []
    for _ in range(STEPS):
        if alone:
            for module in net:  # type: ignore[attr-defined]  # a Sequential
                if hasattr(module, "detach_hidden"):
                    module.detach_hidden()
        _, potential = net(data)
        losses.append(criterion(potential[None], targets))
    total: Any = torch.stack(losses).sum()
    return _named(net, torch.autograd.grad(total, list(net.parameters())))


if __name__ == "__main__":
    report(["snntorch", "torch"], rows())
