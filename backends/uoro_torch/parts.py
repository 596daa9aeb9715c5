"""The modules within a module, and their buffers; `nn.Module` finds them more slowly."""

from __future__ import annotations

from torch import Tensor, nn


def parts_of(module: nn.Module) -> list[nn.Module]:
    """Return a module and all modules within it, each once."""
    found, met = [module], {module}
    for part in found:  # Which grows as it is walked along.
        for child in part._modules.values():
            if child is not None and child not in met:
                met.add(child)
                found.append(child)
    return found


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of a module by name."""
    if not any(part._buffers for part in parts_of(module)):
        return {}
    return dict(module.named_buffers())
