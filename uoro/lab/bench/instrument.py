"""What a backend adds to its benchmark: rows, memory, a device to wait for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from uoro.backend import Backend
from uoro.files.resident import watch_resident
from uoro.lab.bench.roofline import Work

ENTRY_POINT_GROUP = "uoro.benches"
"""Each entry is a function that builds the instrument of the backend of its name."""


class Timed(Protocol):
    """Work to be timed."""

    @property
    def items(self) -> int:
        """Items of the stream per call of `run`, of all streams together as one."""
        ...

    def run(self) -> None:
        """Process the items; return when the device is done."""
        ...


@dataclass(frozen=True)
class BenchModel:
    """The model and the stream that all rows of a group start from.

    Attributes:
        cell: A name in `uoro.models.CELLS`.
        units: Number of units.
        params: Parameters, on the device.
        state: Hidden state, on the device.
        symbols: Function of a count that returns a stack of ``{"symbol", "target"}`` on the device.
    """

    cell: str
    units: int
    params: Any
    state: Any
    symbols: Callable[[int], Any]


@dataclass(frozen=True)
class ExtraRow:
    """A row of one backend only.

    Attributes:
        work: Work of a step, for the roofline.
        base: Name of the row to compare with.
        make: Function that builds the row.
    """

    work: Work
    base: str
    make: Callable[[BenchModel], Timed]


@dataclass(frozen=True)
class PeakMemory:
    """Peak memory of a row.

    Attributes:
        bytes: Peak, in bytes, above the memory in use without the row.
        how: Method of measurement, in words.
        parts: Bytes by part, where known.
    """

    bytes: int
    how: str
    parts: Mapping[str, int]


class Instrument(Protocol):
    """A backend's part of the benchmark, built by the entry point ``uoro.benches``."""

    def set_threads(self, threads: int) -> None:
        """Limit the framework to this number of threads."""
        ...

    def hardware(self) -> str:
        """Return the product name of the device; empty for the CPU."""
        ...

    def wait(self) -> None:
        """Return when the device is idle."""
        ...

    def extras(self) -> dict[str, ExtraRow]:
        """Return the rows of this backend only, by name."""
        ...

    def program_memory(self, program: Callable[..., Any], *arguments: Any) -> PeakMemory | None:
        """Return the memory of a compiled function; ``None`` if unknown to the compiler."""
        ...

    def watch(self) -> Callable[[], PeakMemory | None]:
        """Start to watch memory; the function returned gives the peak since."""
        ...


class PlainInstrument:
    """The instrument of a backend without one of its own."""

    def set_threads(self, threads: int) -> None:
        """Do nothing: environment variables limit the threads."""

    def hardware(self) -> str:
        """Return an empty name."""
        return ""

    def wait(self) -> None:
        """Do nothing: calls return when done."""

    def extras(self) -> dict[str, ExtraRow]:
        """Return no rows."""
        return {}

    def program_memory(self, program: Callable[..., Any], *arguments: Any) -> PeakMemory | None:
        """Return ``None``."""
        return None

    def watch(self) -> Callable[[], PeakMemory | None]:
        """Watch the memory of this process."""
        return resident_memory()


def resident_memory() -> Callable[[], PeakMemory | None]:
    """Watch the resident memory of this process, on Linux."""
    most = watch_resident()

    def said() -> PeakMemory | None:
        grown = most()
        how = (
            "peak resident set above what it was before the row was made, compiling included; "
            "what the process had and used again is not seen"
        )
        return None if grown is None else PeakMemory(grown, how, {})

    return said


def instrument_of(backend: Backend) -> Instrument:
    """Return the instrument registered under the backend's name, or the plain one."""
    entry = {each.name: each for each in entry_points(group=ENTRY_POINT_GROUP)}.get(backend.name)
    made: Instrument = PlainInstrument() if entry is None else entry.load()(backend)
    return made
