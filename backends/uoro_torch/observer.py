"""What a model does to the world around it, while it is probed."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from uoro.differences import UNIT
from uoro.routes import Seen

_places: ContextVar[list[str] | None] = ContextVar("places", default=None)

_LIBRARY = str(Path(__file__).parent)
_NOT_THE_MODEL = (str(Path(torch.__file__).parent), contextlib.__file__)

_FUNCTION = inspect.getfile(torch.autograd.Function)


class _StoppedGradients(TorchFunctionMode):
    """Notes the places where a model computes with gradients switched off."""

    def __init__(self, places: list[str]) -> None:
        super().__init__()
        self._places = places

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the function; note where, if it makes a tensor without a graph."""
        result = function(*args, **(kwargs or {}))
        if not torch.is_grad_enabled() and isinstance(result, Tensor):
            self._note(traceback.extract_stack()[:-1])
        return result

    def _note(self, stack: list[traceback.FrameSummary]) -> None:
        """Name the innermost line that is the model's own."""
        place = None
        for frame in reversed(stack):
            if frame.filename == _FUNCTION and frame.name == "apply":
                return  # The forward pass of a custom Function, which has its own backward.
            if frame.filename.startswith(_LIBRARY):
                break
            if place is None and not frame.filename.startswith(_NOT_THE_MODEL):
                place = f"{Path(frame.filename).name}:{frame.lineno}"
        if place is not None:
            self._places.append(place)


def watched() -> AbstractContextManager[Any]:
    """Watch a model that is run with gradients on, if it is being probed."""
    places = _places.get()
    return nullcontext() if places is None else _StoppedGradients(places)


@contextmanager
def observe(device: torch.device) -> Iterator[Seen]:
    """Keep random states as they were; note where gradients are off, and coarse arithmetic."""
    unit = 0.0
    if torch.is_autocast_enabled(device.type):
        unit = UNIT[str(torch.get_autocast_dtype(device.type)).rpartition(".")[2]]
    seen = Seen([], unit)
    token = _places.set(seen.stopped)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield seen
    finally:
        _places.reset(token)
