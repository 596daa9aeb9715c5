"""Inputs that require gradients, because a layer before the model computed them."""

from __future__ import annotations

import warnings
from typing import Any

import optree
from torch import Tensor

from uoro.errors import DerivativeWarning, SettingError
from uoro_torch.output import made_by_a_step
from uoro_torch.trees import requires_grad


class Encoded:
    """What is said of inputs that require gradients: an error, or a warning, once."""

    def __init__(self) -> None:
        self._warned = False

    def found(self, item: Any, transition: Any) -> list[Tensor]:
        """Return the tensors of an item that require gradients, with a warning at the first.

        Args:
            item: The item.
            transition: Transition that can be differentiated by it; ``None`` if there is none.

        Raises:
            SettingError: If they are computed from the output of an `Online`, or there is no
                transition.
        """
        tensors = [leaf for leaf in optree.tree_leaves(item) if requires_grad(leaf)]
        if not tensors:
            return tensors
        if made_by_a_step(tensors):
            raise SettingError(
                "online(x): expected an input from outside, got one that was computed from the "
                "output of an Online, whose graph would grow with every step. Pass x.detach(), or "
                "put both models into one module."
            )
        if transition is None:
            raise SettingError(
                "online(x): expected an input that requires no gradient, as these dynamics are "
                "not differentiated by it, got one that does. Pass x.detach()."
            )
        if not self._warned:
            self._warned = True
            warnings.warn(
                "online(x): x requires a gradient: the layers that computed it get the gradient "
                "of this step alone, as truncated to one step. To train them over time, make them "
                "part of the model; to leave them as they are, pass x.detach().",
                DerivativeWarning,
                stacklevel=3,
            )
        return tensors
