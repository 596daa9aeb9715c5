"""The plan of a benchmark: groups of rows, each in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from uoro.arguments import (
    mismatch,
    require_choice,
    require_count,
    require_kind,
    require_known,
    require_number,
)
from uoro.errors import SettingError, spelled
from uoro.lab.jobs import Job
from uoro.models import CELLS


class Scale(NamedTuple):
    """Defaults of a benchmark.

    Attributes:
        cells: Cells.
        units: Numbers of units.
        seconds: Duration of a turn.
    """

    cells: tuple[str, ...]
    units: tuple[int, ...]
    seconds: float


SCALES = {
    "quick": Scale(("gru",), (64, 256), 0.1),
    "full": Scale(("gru", "lstm", "rnn"), (16, 64, 256, 512, 1024, 2048), 0.3),
}

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class BenchPlan:
    """What to time, and how.

    Attributes:
        backends: Names of backends.
        cells: Names in `uoro.models.CELLS`, such as ``"gru"``.
        units: Numbers of units of the single layer.
        rows: Names of rows; empty for all rows of the backend.
        repetitions: Number of turns of each row.
        seconds: Approximate duration of a turn.
        threads: Number of threads, and of cores to which the process is pinned.
        alphabet: Number of symbols.
        dtype: Dtype of all numbers.
        device: Device; ``None`` for the backend's default.

    Raises:
        SettingError: If a number is out of range, or a tuple is none or empty.
        UnknownNameError: If a cell is unknown.
    """

    backends: tuple[str, ...]
    cells: tuple[str, ...]
    units: tuple[int, ...]
    rows: tuple[str, ...] = ()
    repetitions: int = 11
    seconds: float = 0.1
    threads: int = 1
    alphabet: int = 3
    dtype: str = "float32"
    device: str | None = None

    def __post_init__(self) -> None:
        for what, chosen in (
            ("backends", self.backends), ("cells", self.cells), ("units", self.units),
        ):  # fmt: skip
            require_kind(f"bench --{what}", what, chosen, tuple, "a non-empty tuple")
            if not chosen:
                raise SettingError(mismatch(f"bench --{what}", "", "one name or more", "none"))
        require_kind("bench --rows", "rows", self.rows, tuple, "a tuple of names")
        for what, names in (("backends", self.backends), ("rows", self.rows)):
            for name in names:
                require_kind(f"bench --{what}", "name", name, str, "a string")
        if self.device is not None:
            require_kind("bench --device", "device", self.device, str, "a device name")
        for what, count in (("repetitions", self.repetitions), ("threads", self.threads)):
            require_count(f"bench --{what} {spelled(count)}", what, count)
        for units in self.units:
            require_count(f"bench --units {spelled(units)}", "units", units)
        call = f"bench --alphabet {spelled(self.alphabet)}"
        require_count(call, "alphabet", self.alphabet, least=2)
        require_number(
            f"bench --seconds {spelled(self.seconds)}",
            "seconds",
            self.seconds,
            "a positive, finite number",
            lambda x: x > 0,
        )
        require_choice(f"bench --dtype {spelled(self.dtype)}", "dtype", self.dtype, DTYPES)
        for cell in self.cells:
            require_known(f"bench --cells {spelled(cell)}", "cell", cell, CELLS)

    def groups(self) -> list[Job]:
        """Return the groups as jobs for other processes."""
        return [
            Job(
                id=f"{backend} {cell} {units}",
                kind="speed",
                settings={
                    "backend": backend,
                    "device": self.device,
                    "dtype": self.dtype,
                    "cell": cell,
                    "units": units,
                    "alphabet": self.alphabet,
                    "rows": list(self.rows),
                    "repetitions": self.repetitions,
                    "seconds": self.seconds,
                    "threads": self.threads,
                },
                cost=self.repetitions * self.seconds,
            )
            for backend in dict.fromkeys(self.backends)
            for cell in dict.fromkeys(self.cells)
            for units in dict.fromkeys(self.units)
        ]
