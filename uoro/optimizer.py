"""The protocol of an optimizer: init, update."""

from __future__ import annotations

from typing import Any, Protocol

from uoro.backend import Backend


class Optimizer(Protocol):
    """How gradients change the params.

    The library's own are below; `uoro_torch.TorchOptimizer` and `uoro_jax.OptaxOptimizer` wrap
    the ones a user already has.
    """

    def init(self, backend: Backend, params: Any) -> Any:
        """Make the optimizer's memory."""
        ...

    def update(
        self, backend: Backend, params: Any, gradient: Any, opt_state: Any, time: Any
    ) -> tuple[Any, Any]:
        """Take one step downhill.

        Args:
            backend: The backend of the trees.
            params: The present parameters.
            gradient: Shaped like them.
            opt_state: As `init` or the last call gave it.
            time: Index of the newest item of the stream that the gradient has seen, from 0.

        Returns:
            The new params and the new memory.
        """
        ...
