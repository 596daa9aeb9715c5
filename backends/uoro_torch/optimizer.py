"""Any `torch.optim.Optimizer`, as an optimizer of this library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import optree
import torch
from torch import Tensor

from uoro.arguments import mismatch, require_methods
from uoro.backend import Backend
from uoro.errors import SettingError, StructureError


@dataclass(frozen=True)
class TorchOptimizer:
    """Let a `torch.optim` optimizer change the params, in place as it always does.

    Args:
        optimizer: Any whose ``step`` needs no closure, made over the very tensors that the
            `Learner` gets as its params.

    Raises:
        SettingError: If it is no optimizer, or one that needs a closure.

    Example:
        >>> import torch
        >>> from uoro_torch import TorchOptimizer
        >>> params = {"theta": torch.zeros(3, requires_grad=True)}
        >>> optimizer = TorchOptimizer(torch.optim.RMSprop(params.values(), lr=1e-3))
    """

    optimizer: torch.optim.Optimizer

    def __post_init__(self) -> None:
        call = f"TorchOptimizer({type(self.optimizer).__name__})"
        expected, hint = "an optimizer of torch.optim", "Build one over the params."
        require_methods(call, "optimizer", self.optimizer, ("step",), expected, hint)
        if not hasattr(self.optimizer, "param_groups"):
            got = "an object without param_groups"
            raise SettingError(mismatch(call, "optimizer", expected, got, hint))
        if isinstance(self.optimizer, torch.optim.LBFGS):
            raise SettingError(
                f"{call}: its step needs a closure that computes the loss again, and online each "
                "item comes once. Take another, such as torch.optim.Adam."
            )

    def init(self, backend: Backend, params: Any) -> tuple[()]:
        """Check that the optimizer holds these params.

        Raises:
            StructureError: If it holds other tensors, which would then never move.
        """
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        strangers = [name for name, p in backend.named_leaves(params) if id(p) not in held]
        if strangers:
            raise StructureError(
                f"TorchOptimizer(optimizer): it does not hold the params {strangers}. Make it "
                "over the same tensors, on the same device, that the learner gets."
            )
        return ()

    def update(
        self, backend: Backend, params: Any, gradient: Any, opt_state: tuple[()], time: Any
    ) -> tuple[Any, tuple[()]]:
        """Fill ``.grad`` and step; the optimizer keeps its own time."""
        leaves = zip(optree.tree_leaves(params), optree.tree_leaves(gradient), strict=True)
        for param, grad in leaves:
            param.grad = grad.clone(memory_format=torch.contiguous_format)
        self.optimizer.step()
        return params, opt_state

    def export(self, backend: Backend) -> tuple[Any, Any]:
        """Give what the optimizer keeps: its tensors, and its numbers as JSON can say them.

        Raises:
            SettingError: If it keeps something else.
        """
        state = self.optimizer.state_dict()
        tensors: dict[str, dict[str, Tensor]] = {}
        numbers: dict[str, dict[str, Any]] = {}
        for index, kept in state["state"].items():
            tensors[str(index)] = {k: v for k, v in kept.items() if isinstance(v, Tensor)}
            numbers[str(index)] = {k: v for k, v in kept.items() if not isinstance(v, Tensor)}
        try:
            plain = json.loads(
                json.dumps({"state": numbers, "param_groups": state["param_groups"]})
            )
        except TypeError as error:
            raise SettingError(
                f"TorchOptimizer.export(): {type(self.optimizer).__name__} keeps what is neither a "
                f"tensor nor a number ({error}), and cannot be saved."
            ) from error
        return tensors, plain

    def restore(
        self, backend: Backend, held: Any, params: Any, arrays: dict[str, Any], numbers: Any
    ) -> None:
        """Put saved values into the tensors it holds, and become what was exported.

        Args:
            backend: The backend of the tensors.
            held: The params, which are changed in place.
            params: The values they are to take.
            arrays: Host arrays by name; its own are below ``"optimizer/"``.
            numbers: As `export` gave them.

        Raises:
            StructureError: If another optimizer was exported.
        """
        try:
            kept: dict[int, dict[str, Any]] = {
                int(index): dict(each) for index, each in numbers["state"].items()
            }
            for name, array in arrays.items():
                if name.startswith("optimizer/"):
                    _, index, entry = name.split("/", 2)
                    kept[int(index)][entry] = backend.from_host(array)
            self.optimizer.load_state_dict({"state": kept, "param_groups": numbers["param_groups"]})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StructureError(
                f"TorchOptimizer.restore(saved): that is not what a "
                f"{type(self.optimizer).__name__} over these params exports "
                f"({type(error).__name__}: {error})."
            ) from error
        with torch.no_grad():
            for mine, theirs in zip(
                optree.tree_leaves(held), optree.tree_leaves(params), strict=True
            ):
                mine.copy_(theirs)
