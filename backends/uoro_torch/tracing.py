"""Whether a map or a compiler looks on, so that tensors are not quite tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_mapped: ContextVar[bool] = ContextVar("mapped", default=False)


def traced() -> bool:
    """Return whether the caller runs under `TorchBackend.vmap` or `torch.compile`."""
    return torch.compiler.is_compiling() or _mapped.get()


@contextmanager
def mapping() -> Iterator[None]:
    """Enter a context in which `traced` is true."""
    token = _mapped.set(True)
    try:
        yield
    finally:
        _mapped.reset(token)
