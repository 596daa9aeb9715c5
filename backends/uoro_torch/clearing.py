"""Gradients that are never cleared, or cleared before an optimizer sees them."""

from __future__ import annotations

import warnings

from torch import Tensor

from uoro.errors import UOROWarning

SEEN = 10
"""Number of updates in a row whose gradients were not cleared after which a warning is due."""
UNSEEN = 1000
"""Number of gradients in a row that were cleared unused after which a warning is due."""


class Clearing:
    """Look at the parameters each time before a gradient is added to ``.grad``."""

    def __init__(self) -> None:
        self._version, self._kept, self._lost, self._said = -1, 0, 0, False

    def look(self, params: dict[str, Tensor], fused: int) -> None:
        """Warn if gradients of many steps add up, or never reach an optimizer.

        Args:
            params: Parameters that are trained.
            fused: Number of updates of them that leave no trace on a parameter.
        """
        version = fused
        for param in params.values():
            version += param._version
        moved, self._version = version != self._version, version
        grad = next((param.grad for param in params.values() if param.requires_grad), None)
        if self._said:
            return
        if grad is None:
            self._kept, self._lost = 0, 0 if moved else self._lost + 1
            if self._lost == UNSEEN:
                self._say(
                    f"got {UNSEEN} in a row that were cleared while the parameters stayed as they "
                    "were: they do not learn. Call optimizer.step() before optimizer.zero_grad(), "
                    "on an optimizer of these parameters."
                )
        elif moved and self._kept >= 0:
            # The first is before any update; set_to_none=False clears by zeros.
            self._kept = self._kept + 1 if bool(grad.any()) else -1
            if self._kept > SEEN:
                self._say(
                    f"got {SEEN} updates in a row after which they were kept, and add up. Call "
                    "optimizer.zero_grad() after optimizer.step()."
                )

    def _say(self, got: str) -> None:
        self._said = True
        warnings.warn(
            f"Online: expected gradients that an optimizer uses and clears, {got}",
            UOROWarning,
            stacklevel=4,
        )
