"""How to reproduce the paper: at which scale, on which backend, with how many seeds."""

from __future__ import annotations

from dataclasses import dataclass

from uoro.arguments import mismatch, require_choice, require_count, require_kind
from uoro.errors import SettingError, spelled
from uoro.lab.jobs import JobSettings

SCALES = ("quick", "paper")
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class ReproductionPlan:
    """How to reproduce.

    Attributes:
        scale: ``"quick"``, minutes, or ``"paper"``, the paper's lengths and repetitions.
        backend: Name of the backend.
        device: Device; ``None`` for the backend's default.
        seeds: Number of seeds of each learning run; ``None`` for the scale's own number.
        eager: Whether the backend runs each step in Python; quick runs are then shorter.

    Raises:
        SettingError: If the scale is unknown, a name is no string, or the number of seeds is out
            of range.
    """

    scale: str = "quick"
    backend: str = "jax"
    device: str | None = None
    seeds: int | None = None
    eager: bool = False

    def __post_init__(self) -> None:
        require_choice(f"reproduce --scale {spelled(self.scale)}", "scale", self.scale, SCALES)
        require_kind("reproduce --backend", "backend", self.backend, str, "a backend name")
        if self.device is not None:
            require_kind("reproduce --device", "device", self.device, str, "a device name")
        if self.seeds is not None:
            call = f"reproduce --seeds {spelled(self.seeds)}"
            if require_count(call, "seeds", self.seeds) > MOST_SEEDS:
                raise SettingError(
                    mismatch(call, "seeds", f"{MOST_SEEDS:,} at most", f"{self.seeds:,}")
                )

    @property
    def paper(self) -> bool:
        """Whether the paper's lengths and repetitions are wanted."""
        return self.scale == "paper"

    def length(self, *, paper: int, quick: int, eager: int) -> int:
        """Return the length for this scale, and for a backend that runs each step in Python."""
        return paper if self.paper else eager if self.eager else quick

    def common(self, dtype: str = "float32") -> JobSettings:
        """Return the settings that all jobs share."""
        return {"backend": self.backend, "device": self.device, "dtype": dtype}
