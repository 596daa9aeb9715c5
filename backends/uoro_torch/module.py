"""Any `nn.Module` with a state, as a transition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def module_transition(
    module: nn.Module, loss: Callable[[Any, Any], Tensor]
) -> Callable[[Any, Any, Any], tuple[Any, Tensor]]:
    """Make a transition of a module and a loss.

    Args:
        module: Called as ``module(input, state)``, it returns ``(output, next_state)``.
        loss: Called as ``loss(output, target)``, it returns a scalar.

    Returns:
        ``transition(params, state, (input, target))`` for
        ``params = dict(module.named_parameters())``. The module itself is not changed.
    """

    def transition(params: Any, state: Any, inputs: Any) -> tuple[Any, Tensor]:
        given, target = inputs
        output, next_state = functional_call(module, params, (given, state))
        return next_state, loss(output, target)

    return transition
