"""Functions of a model that are compiled once and called now and then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uoro.dynamics import Dynamics


@dataclass
class Compiled:
    """Functions made of dynamics and of how many axes there are, each compiled once."""

    make: Callable[..., Callable[..., Any]]
    kept: dict[Any, Callable[..., Any]] = field(default_factory=dict)

    def __call__(self, dynamics: Dynamics[Any, Any, Any], *settings: Any) -> Callable[..., Any]:
        """Give the function, made now or before."""
        if (dynamics, *settings) not in self.kept:
            made = self.make(dynamics, *settings)
            self.kept[dynamics, *settings] = dynamics.backend.compile(made)
        return self.kept[dynamics, *settings]
