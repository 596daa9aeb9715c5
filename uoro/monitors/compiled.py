"""Functions of a model that are compiled once and called many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uoro.dynamics import Dynamics


@dataclass
class Compiled:
    """Functions of dynamics and of settings such as a number of axes, each compiled once."""

    make: Callable[..., Callable[..., Any]]
    kept: dict[Any, Callable[..., Any]] = field(default_factory=dict)

    def __call__(self, dynamics: Dynamics[Any, Any, Any], *settings: Any) -> Callable[..., Any]:
        """Return the compiled function; build it at the first call."""
        if (dynamics, *settings) not in self.kept:
            made = self.make(dynamics, *settings)
            self.kept[dynamics, *settings] = dynamics.backend.compile(made)
        return self.kept[dynamics, *settings]
