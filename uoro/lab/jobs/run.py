"""What an experiment is made of: runs whose settings determine their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from uoro.arguments import require_choice, require_count, require_kind
from uoro.errors import SettingError, spelled

Settings: TypeAlias = dict[str, Any]
"""What determines a run, as JSON can say it."""

Report: TypeAlias = Callable[[float], None]
"""Called with the fraction of a run that is done."""

Scale: TypeAlias = str
"""``"quick"`` or ``"paper"``."""

SCALES = ("quick", "paper")
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Plan:
    """How to reproduce.

    Attributes:
        scale: How long and how often.
        backend: Name of the backend.
        device: The device, or ``None`` for the backend's own choice.
        seeds: How many seeds each learning run is to have; the scale's own choice if not given.
        eager: Whether the backend runs each step in Python, for which a quick scale is shorter.

    Raises:
        SettingError: If there is no such scale, a name is no string, or there are too few or
            too many seeds.
    """

    scale: Scale = "quick"
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
                raise SettingError(f"{call}: wanted are {MOST_SEEDS:,} at most.")

    @property
    def paper(self) -> bool:
        """Whether the paper's lengths and repetitions are wanted."""
        return self.scale == "paper"

    def length(self, *, paper: int, quick: int, eager: int) -> int:
        """Choose by the scale, and by whether each step runs in Python."""
        return paper if self.paper else eager if self.eager else quick

    def common(self, dtype: str = "float32") -> Settings:
        """Settings that all runs have."""
        return {"backend": self.backend, "device": self.device, "dtype": dtype}


@dataclass(frozen=True)
class Run:
    """One run of an experiment, the smallest piece that is kept.

    Attributes:
        id: Names it within the experiment, for people too.
        kind: Which of `uoro.lab.reproduce.kinds.KINDS` it is.
        settings: What determines its numbers.
        cost: How long it takes, in seconds on one core, by a rough guess.
    """

    id: str
    kind: str
    settings: Settings
    cost: float


@dataclass(frozen=True)
class Done:
    """A run and what came of it.

    Attributes:
        settings: What determined it.
        result: What the function of its kind gave.
        seconds: How long it took.
        made: With which versions, and on what machine.
    """

    settings: Settings
    result: dict[str, Any]
    seconds: float
    made: dict[str, Any] = field(default_factory=dict)


Results: TypeAlias = dict[str, Done]
"""By the id of the run."""


def without_seeds(settings: Settings) -> Settings:
    """Give what the seeds of a run have in common."""
    return {name: value for name, value in settings.items() if name not in ("seed", "seeds")}


def covers(done: Settings, wanted: Settings) -> bool:
    """Tell whether a run gives all that another would."""
    return (
        without_seeds(done) == without_seeds(wanted)
        and done.get("seed") == wanted.get("seed")
        and set(wanted.get("seeds", ())) <= set(done.get("seeds", ()))
    )
