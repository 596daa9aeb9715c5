"""Where an `Online` stands: what its steps read and write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Running:
    """Where an `Online` stands.

    Attributes:
        params: Parameters to train, by name.
        state: Hidden state after the last step.
        initial: Hidden state to start from.
        seed: Seed of every random draw.
        carry: What the estimator carries; ``None`` before the first step.
        steps: Number of steps taken, those skipped included.
        waiting: Leaves of a carry that was loaded, whose shapes the next item tells.
        example: Item of the last step; ``None`` before the first.
    """

    params: dict[str, Tensor]
    state: Any
    initial: Any
    seed: int
    carry: Any = None
    steps: int = 0
    waiting: Any = None
    example: Any = None


def _shown(name: str) -> Any:
    """Return an attribute that is one of the `Running` of an object."""

    def get(self: Any) -> Any:
        return getattr(self._running, name)

    def put(self: Any, value: Any) -> None:
        setattr(self._running, name, value)

    return property(get, put)


class Shown:
    """Base of what shows where it stands; its attributes are those of `Running`."""

    _running: Running

    params: dict[str, Tensor] = _shown("params")
    state: Any = _shown("state")
    seed: int = _shown("seed")
    carry: Any = _shown("carry")
    steps: int = _shown("steps")
