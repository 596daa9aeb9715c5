"""Any optax transformation, as an optimizer of this library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax

from uoro.arguments import require_methods
from uoro.backend import Backend
from uoro.errors import spelled


class GradientTransformation(Protocol):
    """What `optax.GradientTransformation` is."""

    @property
    def init(self) -> Any: ...  # noqa: D102
    @property
    def update(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class OptaxOptimizer:
    """Let an optax transformation change the params.

    Args:
        transformation: Any of optax's, with whatever schedule it has of its own.

    Raises:
        SettingError: If it is none.

    Example:
        >>> import optax
        >>> from uoro_jax import OptaxOptimizer
        >>> optimizer = OptaxOptimizer(optax.chain(optax.clip(1.0), optax.adam(1e-3)))
    """

    transformation: GradientTransformation

    def __post_init__(self) -> None:
        require_methods(
            f"OptaxOptimizer({spelled(self.transformation)})",
            "transformation",
            self.transformation,
            ("init", "update"),
            "an optax transformation, such as optax.adam(1e-3)",
        )

    def init(self, backend: Backend, params: Any) -> Any:
        """Make the transformation's state."""
        return self.transformation.init(params)

    def update(
        self, backend: Backend, params: Any, gradient: Any, opt_state: Any, time: Any
    ) -> tuple[Any, Any]:
        """Transform the gradient and apply it; the transformation keeps its own time."""
        updates, opt_state = self.transformation.update(gradient, opt_state, params)
        return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates), opt_state
