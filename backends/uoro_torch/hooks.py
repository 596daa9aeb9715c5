"""Hooks that a model has on its activations and modules, which may change its derivatives."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from uoro.errors import DerivativeError
from uoro_torch.trees import dense

_seen: ContextVar[list[str] | None] = ContextVar("hooks", default=None)


def hooked_modules(module: nn.Module) -> list[str]:
    """Return the names of the parts of a module that have backward hooks."""
    return [
        f"{name or 'the module'} ({type(part).__name__})"
        for name, part in module.named_modules()
        if part._backward_hooks or getattr(part, "_backward_pre_hooks", None)
    ]


@contextmanager
def noting_hooks(hooks: list[str]) -> Iterator[None]:
    """Enter a context of a model check, in which `note_hook` adds to a list."""
    token = _seen.set(hooks)
    try:
        yield
    finally:
        _seen.reset(token)


def note_hook(place: str) -> None:
    """Add the place of a hook on an activation during a model check."""
    hooks = _seen.get()
    if hooks is not None and place not in hooks:
        hooks.append(place)


class WithoutHooks(TorchFunctionMode):
    """Register no hook on a tensor without a graph, for which PyTorch raises an error."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function, but for `Tensor.register_hook`."""
        if getattr(function, "__name__", "") == "register_hook" and not args[0].requires_grad:
            return torch.utils.hooks.RemovableHandle(OrderedDict[int, Any]())
        return function(*args, **(kwargs or {}))


def require_linear_hooks(results: Sequence[Tensor], roots: Sequence[Tensor]) -> None:
    """Raise during a model check if hooks make the backward pass nonlinear.

    Args:
        results: Outputs of the model, on a graph.
        roots: Tensors that the graph begins with.

    Raises:
        DerivativeError: If a pass does not scale with the cotangents, naming the hooks.
    """
    hooks = _seen.get()
    recorded = [result for result in results if result.requires_grad]
    if not hooks or not recorded:
        return

    def pulled(scale: float) -> list[Tensor]:
        ones = [torch.full_like(result, scale) for result in recorded]
        parts = torch.autograd.grad(recorded, roots, ones, retain_graph=True, allow_unused=True)
        return [dense(part) / scale for part in parts if part is not None]

    # A power of two scales a linear pass exactly, down to the bits.
    scale = 2.0**20 if all(torch.finfo(one.dtype).max > 1e30 for one in recorded) else 2.0**6
    pairs = list(zip(pulled(1.0), pulled(scale), strict=True))
    apart = math.hypot(*(float((one - other).norm()) for one, other in pairs))
    if apart > 1e-3 * math.hypot(*(float(one.norm()) for one, _ in pairs)):
        raise DerivativeError(
            "backend.dynamics(transition): expected a backward pass that is linear, got backward "
            f"hooks at {', '.join(hooks)} that clip or rescale what passes through them: random "
            "signs pulled back as well as gradients. Clip the final gradient instead: param.grad "
            "after the step, or hooks on the parameters."
        )
