"""Spectral norms, whose power iteration is no part of their derivative."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm

from uoro_torch.places import attributes_restored, places, restored


def spectral_parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the parts of a module, by name, in which a forward pass iterates a spectral norm."""
    kind: type = parametrizations._SpectralNorm
    return [
        (name, part)
        for name, part in module.named_modules()
        if part.training
        and (
            isinstance(part, kind)
            or any(isinstance(hook, SpectralNorm) for hook in part._forward_pre_hooks.values())
        )
    ]


@contextmanager
def singular_vectors_held(module: nn.Module, buffers: Mapping[str, Tensor]) -> Iterator[None]:
    """Enter a context in which spectral norms keep their singular vectors.

    Args:
        module: Module with the norms.
        buffers: Buffers to hold, by name.
    """
    parts = spectral_parts(module)
    owned = {f"{name}.{each}" if name else each for name, part in parts for each in part._buffers}
    mine = [place for place in places(module, buffers=True) if place.name in owned]
    with attributes_restored(module), restored(mine):
        for place in mine:
            place.put(buffers[place.name])
        for _, part in parts:
            part.training = False
        yield
