"""Any optax transformation as an optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax

from uoro.arguments import require_methods
from uoro.backend import Backend
from uoro.errors import spelled


class GradientTransformation(Protocol):
    """The two functions of an `optax.GradientTransformation`."""

    @property
    def init(self) -> Any: ...  # noqa: D102
    @property
    def update(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class OptaxOptimizer:
    """Update the parameters by an optax transformation.

    Args:
        transformation: Transformation of optax, such as ``optax.adam(1e-3)``, with its own
            schedule.

    Raises:
        SettingError: If the transformation lacks `init` or `update`.

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
        """Return the state of the transformation."""
        return self.transformation.init(params)

    def update(
        self, backend: Backend, gradient: Any, opt_state: Any, params: Any, time: Any
    ) -> tuple[Any, Any]:
        """Return the updated parameters and state; the transformation counts its own steps."""
        updates, opt_state = self.transformation.update(gradient, opt_state, params)
        return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates), opt_state
