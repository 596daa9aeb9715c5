"""The model check in PyTorch: autodiff modes to choose among, and a watch on the model."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from uoro.derivatives.choosing import Route, Seen
from uoro.derivatives.differenced import by_differences
from uoro.derivatives.differences import UNIT
from uoro.derivatives.routes import Routed
from uoro.errors import DerivativeError
from uoro.learning.host_noise import numpy_random_state_kept
from uoro_torch.compiled_parts import buffers_kept, compiling, uncompiled
from uoro_torch.hooks import (
    WithoutHooks,
    hooked_modules,
    note_hook,
    noting_hooks,
    require_linear_hooks,
)
from uoro_torch.places import attributes_restored
from uoro_torch.tracing import traced

Result = TypeVar("Result")

_places: ContextVar[list[str] | None] = ContextVar("places", default=None)

_ignoring: ContextVar[bool] = ContextVar("ignoring", default=False)

_LIBRARY = str(Path(__file__).parent)
_NOT_THE_MODEL = (str(Path(torch.__file__).parent), contextlib.__file__)

_FUNCTION = inspect.getfile(torch.autograd.Function)


def routed(
    make: Callable[..., Any],
    device: torch.device,
    *,
    check: bool = True,
    module: nn.Module | None = None,
) -> Routed:
    """Build dynamics that choose an autodiff mode at their first step.

    The modes, from the fastest: the VJP of the VJP; forward mode; both again without fused
    kernels; differences.

    Args:
        make: Function that builds the dynamics of one mode, ``make(forward_mode=…, fused=…)``.
        device: Device of the tensors.
        check: Whether the model is checked at the first step.
        module: Module whose attributes the model check restores.
    """
    routes = (
        Route("double vjp", make()),
        Route("forward mode", make(forward_mode=True)),
        Route("double vjp without fused kernels", make(fused=False)),
        Route("forward mode without fused kernels", make(forward_mode=True, fused=False)),
        by_differences(make()),
    )
    return Routed(
        routes,
        check=check,
        concrete=lambda tree: not traced(),
        observe=partial(observe, device, module),
    )


class _StoppedGradients(TorchFunctionMode):
    """Record the places where a model computes with gradients switched off."""

    def __init__(self, places: list[str]) -> None:
        super().__init__()
        self._places = places

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function; record its place if it returns a tensor without a graph."""
        name = getattr(function, "__name__", "")
        if name == "register_hook":
            note_hook(_place(traceback.extract_stack()[:-1]) or "the model")
        switching = name.endswith("set_grad_enabled")
        plain = switching or torch.is_grad_enabled()
        place = None if plain else _place(traceback.extract_stack()[:-1])
        kept_on = place is not None and _ignoring.get() and "out" not in (kwargs or {})
        on = torch.enable_grad() if kept_on else nullcontext()
        with on:
            result = function(*args, **(kwargs or {}))
        if place is not None and isinstance(result, Tensor):
            self._places.append(place)
        return result


def _place(stack: list[traceback.FrameSummary]) -> str | None:
    """Return the innermost line that is the model's own."""
    place = None
    for frame in reversed(stack):
        if frame.filename == _FUNCTION and frame.name == "apply":
            return None  # The forward pass of a custom Function, which has its own backward.
        if frame.filename.startswith(_LIBRARY):
            break
        if place is None and not frame.filename.startswith(_NOT_THE_MODEL):
            place = f"{Path(frame.filename).name}:{frame.lineno}"
    return place


def watch(run: Callable[..., Any], *arguments: Any) -> Any:
    """Run a model with gradients on, and watch it during a model check.

    Parts of it under `torch.compile` cannot be watched: compiled under a `TorchFunctionMode`, they
    return wrong numbers (PyTorch 2.13). The model is watched without compilation first then.
    """
    places = _places.get()
    if places is None:
        with buffers_kept():
            return run(*arguments)
    with uncompiled(), _StoppedGradients(places):
        results = run(*arguments)
    if not compiling() or _ignoring.get():
        return results
    with buffers_kept():
        return run(*arguments)


class WithoutGraph:
    """Runs a model with gradients off; a model that registers hooks on tensors may do so."""

    def __init__(self) -> None:
        self._hooked = False

    def __call__(self, run: Callable[[], Result]) -> Result:
        """Run the model."""
        if torch.compiler.is_compiling():
            return run()  # A ContextVar cannot be compiled.
        if _places.get() is None and not self._hooked:
            try:
                return run()
            except RuntimeError as error:
                if "cannot register a hook" not in str(error):
                    raise
                self._hooked = True
        with uncompiled(), WithoutHooks():
            return run()


def require_sound_graph(results: Sequence[Tensor], roots: Sequence[Tensor]) -> None:
    """Raise during a model check if the backward pass is not that of the model and its params.

    Args:
        results: Outputs of the model, on a graph.
        roots: Tensors that the graph may begin with.

    Raises:
        DerivativeError: If the graph begins with other trainable tensors, naming their shapes; or
            if hooks change what is pulled back in a nonlinear way, naming the hooks.
    """
    if _places.get() is None:
        return
    _require_no_strangers(results, roots)
    require_linear_hooks(results, roots)


def _require_no_strangers(results: Sequence[Tensor], roots: Sequence[Tensor]) -> None:
    known, strangers = {id(root) for root in roots}, dict[int, Tensor]()
    nodes, met = [result.grad_fn for result in results], set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in met:
            continue
        met.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in known:
            strangers[id(variable)] = variable
        nodes += [following for following, _ in node.next_functions]
    memory = {root.data_ptr() for root in roots}
    elsewhere = [tuple(one.shape) for one in strangers.values() if one.data_ptr() in memory]
    if elsewhere:
        raise DerivativeError(
            "backend.dynamics(transition): expected params that are read where they are passed, "
            f"got some of shapes {elsewhere} that the model reads from elsewhere, such as a "
            "closure or a global, where a step cannot exchange them. Read them from the params, or "
            "from attributes of the module, in the forward pass."
        )
    if strangers:
        shapes = [tuple(one.shape) for one in strangers.values()]
        raise DerivativeError(
            "backend.dynamics(transition): expected every trainable tensor among the params, got "
            f"others of shapes {shapes} in the model or its loss, which nothing "
            "would train. Add them to the params (make a readout a submodule), or detach() them."
        )


def autocast_unit(device: torch.device) -> float:
    """Return the unit of roundoff of autocast; 0 where it is off."""
    if not torch.is_autocast_enabled(device.type):
        return 0.0
    return UNIT[str(torch.get_autocast_dtype(device.type)).rpartition(".")[2]]


@contextmanager
def observe(device: torch.device, module: nn.Module | None = None) -> Iterator[Seen]:
    """Enter a context that restores random states and a module's attributes at its end.

    It yields a record of the places where gradients were off.

    Args:
        device: Device whose random state is restored.
        module: Module whose attributes are restored.
    """
    unit = autocast_unit(device)
    hooks = [] if module is None else hooked_modules(module)
    seen = Seen([], unit, _ignoring_stops, hooks)
    token = _places.set(seen.stopped)
    try:
        with (
            nullcontext() if module is None else attributes_restored(module),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            numpy_random_state_kept(),
            noting_hooks(hooks),
        ):
            yield seen
    finally:
        _places.reset(token)


@contextmanager
def _ignoring_stops() -> Iterator[None]:
    token = _ignoring.set(True)
    try:
        yield
    finally:
        _ignoring.reset(token)
