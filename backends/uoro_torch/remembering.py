"""What a model reads besides its arguments, put back as it was at an earlier step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from uoro_torch.parts import buffers_of, parts_of

Then = Callable[[], AbstractContextManager[Any]]
"""Returns a context in which things are as they were."""


def remember(device: torch.device, module: nn.Module | None = None) -> Then:
    """Remember autocast, and of a module its buffers and which of its parts are in training mode.

    Gradients of some estimators run the step again, after buffers were written and modes changed.

    Args:
        device: Device of the model.
        module: Module of the model.
    """
    cast = _autocast(device)
    if module is None:
        return lambda: _cast_again(device, cast)
    buffers = {name: buffer.clone() for name, buffer in buffers_of(module).items()}
    parts = parts_of(module)
    training = [part.training for part in parts]

    def then() -> AbstractContextManager[Any]:
        again = _cast_again(device, cast)
        if not buffers and training == [part.training for part in parts]:
            return again
        stack = ExitStack()
        stack.enter_context(again)
        stack.enter_context(_buffers_replaced(module, buffers))
        stack.enter_context(_modes_replaced(parts, training))
        return stack

    return then


def _autocast(device: torch.device) -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)


def _cast_again(
    device: torch.device, cast: tuple[bool, torch.dtype]
) -> AbstractContextManager[Any]:
    if _autocast(device) == cast:
        return nullcontext()
    return torch.autocast(device.type, enabled=cast[0], dtype=cast[1])


@contextmanager
def _modes_replaced(parts: list[nn.Module], training: list[bool]) -> Iterator[None]:
    before = [part.training for part in parts]
    _set_training(parts, training)
    try:
        yield
    finally:
        _set_training(parts, before)


def _set_training(parts: list[nn.Module], training: list[bool]) -> None:
    for part, mode in zip(parts, training, strict=True):
        part.training = mode


@contextmanager
def _buffers_replaced(module: nn.Module, buffers: dict[str, Tensor]) -> Iterator[None]:
    paths = [name.rpartition(".") for name in buffers]
    places = [(module.get_submodule(path), last) for path, _, last in paths]
    before = [part._buffers[last] for part, last in places]
    for (part, last), value in zip(places, buffers.values(), strict=True):
        part._buffers[last] = value
    try:
        yield
    finally:
        for (part, last), buffer in zip(places, before, strict=True):
            part._buffers[last] = buffer
