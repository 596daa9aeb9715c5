"""What a backend may add to its own benchmark: rows, memory, a device to wait for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from uoro.backend import Backend
from uoro.files.resident import watch_resident
from uoro.lab.bench.roofline import Work

ENTRY_POINT_GROUP = "uoro.benches"
"""Each entry is a function that makes the instrument of the backend of its name."""


class Timed(Protocol):
    """Something to take the time of."""

    @property
    def items(self) -> int:
        """Items of the stream that one call of `run` goes through; streams count once."""
        ...

    def run(self) -> None:
        """Go through the items; return when the device is done."""
        ...


@dataclass(frozen=True)
class BenchModel:
    """What a row starts from.

    Attributes:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        units: Units of it.
        params: On the device.
        state: On the device.
        symbols: Gives so many ``{"symbol", "target"}`` as a stack on the device.
    """

    cell: str
    units: int
    params: Any
    state: Any
    symbols: Callable[[int], Any]


@dataclass(frozen=True)
class ExtraRow:
    """A row that one backend alone has.

    Attributes:
        work: What it has to do, for the roofline.
        base: The row it is held against.
        make: Makes it.
    """

    work: Work
    base: str
    make: Callable[[BenchModel], Timed]


@dataclass(frozen=True)
class PeakMemory:
    """How much memory a row needs.

    Attributes:
        bytes: The most at a time, beyond what was there without the row.
        how: How it was found.
        parts: What it is made of, where that is known.
    """

    bytes: int
    how: str
    parts: Mapping[str, int]


class Instrument(Protocol):
    """What the benchmark asks of a backend; made by the entry point ``uoro.benches``."""

    def set_threads(self, threads: int) -> None:
        """Keep the framework to so many threads."""
        ...

    def hardware(self) -> str:
        """Name the device, as its maker does; empty where it is the processor."""
        ...

    def wait(self) -> None:
        """Return when the device has done all it was given."""
        ...

    def extras(self) -> dict[str, ExtraRow]:
        """Give the rows that this backend alone has, by name."""
        ...

    def program_memory(self, program: Callable[..., Any], *arguments: Any) -> PeakMemory | None:
        """Say what a compiled function needs, where the compiler knows."""
        ...

    def watch(self) -> Callable[[], PeakMemory | None]:
        """Begin to watch what memory is taken; the result says the most there was since."""
        ...


class PlainInstrument:
    """The instrument of a backend that registers none."""

    def set_threads(self, threads: int) -> None:
        """Do nothing: the environment says it."""

    def hardware(self) -> str:
        """Say nothing."""
        return ""

    def wait(self) -> None:
        """Do nothing: what was called is done."""

    def extras(self) -> dict[str, ExtraRow]:
        """Have none."""
        return {}

    def program_memory(self, program: Callable[..., Any], *arguments: Any) -> PeakMemory | None:
        """Know nothing."""
        return None

    def watch(self) -> Callable[[], PeakMemory | None]:
        """Watch the memory of this process."""
        return resident_memory()


def resident_memory() -> Callable[[], PeakMemory | None]:
    """Watch the memory of this process, where the system tells."""
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
    """Load the instrument registered under the backend's name, or take the plain one."""
    entry = {each.name: each for each in entry_points(group=ENTRY_POINT_GROUP)}.get(backend.name)
    made: Instrument = PlainInstrument() if entry is None else entry.load()(backend)
    return made
