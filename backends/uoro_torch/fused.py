"""Updates by fused optimizers, which change parameters in place and leave no trace on them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook


class FusedUpdates:
    """Counts the steps of fused optimizers on some parameters.

    Fused kernels do not count up a tensor's version, by which autograd notices changes in place
    (PyTorch 2.13). So the first `FusedUpdates` registers a hook on the steps of all optimizers,
    which looks at those with ``fused=True``.

    Args:
        params: The parameters.

    Attributes:
        count: Number of steps.
    """

    def __init__(self, params: Iterable[Tensor]) -> None:
        self._ids = {id(param) for param in params}
        self.count = 0
        if not _hooked:
            _hooked.append(register_optimizer_step_post_hook(_count))
        _all.add(self)

    def see(self, updated: set[int]) -> None:
        """Count a step on parameters of these ids."""
        self.count += not self._ids.isdisjoint(updated)


_all = weakref.WeakSet[FusedUpdates]()
_hooked = list[Any]()


def _count(optimizer: Any, args: Any, kwargs: Any) -> None:
    updated = {
        id(param)
        for group in optimizer.param_groups
        if group.get("fused")
        for param in group["params"]
    }
    if updated:
        for updates in list(_all):
            updates.see(updated)
