"""Any `torch.optim.Optimizer` as an optimizer."""

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
    """Update the parameters in place by a `torch.optim` optimizer.

    Args:
        optimizer: Optimizer whose ``step`` needs no closure, constructed over the same tensors
            that the `Learner` gets as its parameters.

    Raises:
        SettingError: If the optimizer is none of `torch.optim`, or needs a closure.

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
                f"{call}: expected an optimizer that steps without a closure, because each item "
                "comes once. Try torch.optim.Adam."
            )

    def init(self, backend: Backend, params: Any) -> tuple[()]:
        """Check that the optimizer holds these parameters, and return the empty state.

        Raises:
            StructureError: If the optimizer holds other tensors: the parameters would never change.
        """
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        strangers = [name for name, p in backend.named_leaves(params) if id(p) not in held]
        if strangers:
            raise StructureError(
                f"TorchOptimizer(optimizer): expected an optimizer over the learner's params, got "
                f"one that does not hold the params {strangers}. Construct the optimizer over the "
                "same tensors, on the same device, as the learner."
            )
        return ()

    def update(
        self, backend: Backend, gradient: Any, opt_state: tuple[()], params: Any, time: Any
    ) -> tuple[Any, tuple[()]]:
        """Fill ``.grad`` and step; the optimizer counts its own steps."""
        leaves = zip(optree.tree_leaves(params), optree.tree_leaves(gradient), strict=True)
        for param, grad in leaves:
            param.grad = grad.clone(memory_format=torch.contiguous_format)
        self.optimizer.step()
        return params, opt_state

    def export(self, backend: Backend) -> tuple[Any, Any]:
        """Return the optimizer's tensors, and its numbers as JSON can write them.

        Raises:
            SettingError: If the optimizer keeps anything else.
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
                f"TorchOptimizer.export(): expected tensors and numbers in the state of "
                f"{type(self.optimizer).__name__}, got something else ({error}). Train without "
                "checkpoints, or with another optimizer."
            ) from error
        return tensors, plain

    def restore(
        self, backend: Backend, held: Any, params: Any, arrays: dict[str, Any], numbers: Any
    ) -> None:
        """Load what `export` returned, and write values into the parameters in place.

        Args:
            backend: Backend of the tensors.
            held: Parameters that the optimizer updates.
            params: Values for these parameters.
            arrays: Host arrays by name; those of the optimizer are named ``"optimizer/…"``.
            numbers: Numbers that `export` returned.

        Raises:
            StructureError: If the arrays and numbers are those of another optimizer.
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
                f"TorchOptimizer.restore(saved): expected what a {type(self.optimizer).__name__} "
                f"over these params exports, got something else ({type(error).__name__}: {error})."
                " Construct the optimizer that was saved."
            ) from error
        with torch.no_grad():
            for mine, theirs in zip(
                optree.tree_leaves(held), optree.tree_leaves(params), strict=True
            ):
                mine.copy_(theirs)
