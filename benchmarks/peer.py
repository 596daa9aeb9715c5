"""What the comparisons of ``peers.py`` have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uoro.files import results as record

ALPHABET = 3
CHUNK = 512
RATE = 1e-3


@dataclass(frozen=True)
class Called:
    """Something to time.

    Attributes:
        items: Steps in one call.
        function: Takes them, and returns when they are done.
    """

    items: int
    function: Callable[[], Any]

    def run(self) -> None:
        """Take the steps."""
        self.function()


def spell_versions(names: list[str]) -> str:
    """Say what is compared."""
    return ", ".join(f"{name} {number}" for name, number in record.versions(names).items())
