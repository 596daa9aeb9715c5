"""spikingjelly's online training on its own neurons; for ``peers_conform.py``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from carried import always, judge, quoted, report
from torch import nn

neuron: Any = import_module("spikingjelly.activation_based.neuron")
layer: Any = import_module("spikingjelly.activation_based.layer")
functional: Any = import_module("spikingjelly.activation_based.functional")

INPUTS, HIDDEN, CLASSES, STEPS = 3, 6, 4, 8

ALGORITHMS: dict[str, tuple[Any, Any]] = {
    "OTTT": (neuron.OTTTLIFNode, layer.OTTTSequential),
    "SLTT": (neuron.SLTTLIFNode, nn.Sequential),
}

SAYS = {
    "OTTT": quoted("calculate gradients by the traces of neurons", layer.GradwithTrace.__init__),
    "SLTT": quoted("truncating temporal gradients", neuron.SLTTLIFNode.__init__),
}

NETWORKS: dict[str, Callable[[Any], list[nn.Module]]] = {
    "LIF": lambda lif: [nn.Linear(INPUTS, CLASSES), lif()],
    "LIF × 2": lambda lif: [
        nn.Linear(INPUTS, HIDDEN),
        lif(),
        nn.Linear(HIDDEN, CLASSES),
        lif(),
    ],
}


def rows() -> list[dict[str, Any]]:
    """Measure every algorithm on every network."""
    found = []
    for kind, made in NETWORKS.items():
        torch.manual_seed(0)
        data, targets = 2.0 * torch.rand(STEPS, 1, INPUTS), torch.rand(STEPS, 1, CLASSES)
        plain = nn.Sequential(*made(_lif))
        with torch.no_grad():
            for param in plain.parameters():
                param.mul_(2.0)
        exact, alone = (_total(plain, data, targets, alone=each) for each in (False, True))
        for name, (lif, sequence) in ALGORITHMS.items():
            net = sequence(*made(partial(lif, decay_input=False, v_reset=None)))
            net.load_state_dict(plain.state_dict())
            got = _total(net, data, targets, each=True)
            row = judge(exact, alone, always(got), 1)
            found.append({"network": kind, "algorithm": name, "says": SAYS[name], **row})
    return found


def _lif() -> Any:
    """Build the neuron that theirs have the forward pass of; the reset is not differentiated."""
    return neuron.LIFNode(decay_input=False, v_reset=None, detach_reset=True)


def _total(
    net: Any, data: Any, targets: Any, *, alone: bool = False, each: bool = False
) -> dict[str, Any]:
    """Compute a sum of gradients of the squared distances of spikes from targets.

    Args:
        net: The network.
        data: Input of each step.
        targets: Targets of each step.
        alone: Whether the potentials are held constant at each step.
        each: Whether each step's loss is differentiated at once, as for online training.
    """
    functional.reset_net(net)
    net.zero_grad()
    losses = []
    for x, y in zip(data, targets, strict=True):
        if alone:
            functional.detach_net(net)
        spikes = net(x)
        spikes = spikes[0] if isinstance(spikes, list) else spikes
        losses.append(((spikes - y) ** 2).sum())
        if each:
            losses[-1].backward()
    if not each:
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    return {name: param.grad.double().numpy().copy() for name, param in net.named_parameters()}


if __name__ == "__main__":
    report(["spikingjelly", "torch"], rows())
