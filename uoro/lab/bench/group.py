"""Timing of one group: the rows of one backend, cell and number of units."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uoro.algebra import entry
from uoro.backend import Backend
from uoro.derivatives.routes import probe
from uoro.errors import UnknownNameError
from uoro.lab.bench.instrument import (
    BenchModel,
    ExtraRow,
    Instrument,
    PeakMemory,
    Timed,
    instrument_of,
)
from uoro.lab.bench.learning import Forward, Learning, items_of
from uoro.lab.bench.roofline import Roofline, Sizes, Work, least
from uoro.lab.bench.rows import ROWS, RTRL_UNITS, base_of, parse_row
from uoro.lab.bench.throughput import Machine
from uoro.lab.bench.timing import Calibrated, calibrate, take_turns
from uoro.lab.jobs import JobSettings, Report
from uoro.models import CELLS, SymbolModel
from uoro.registry import load_backend

READY = 0.4
"""Fraction of a group's time before the first repetition, for the progress bar."""


def time_group(settings: JobSettings, report: Report) -> dict[str, Any]:
    """Time all rows in turns, measure the machine, and return the results as JSON values.

    Args:
        settings: Settings of a group, from `BenchPlan.groups`.
        report: Called with the fraction that is done.
    """
    backend = load_backend(settings["backend"], device=settings["device"])
    instrument = instrument_of(backend)
    instrument.set_threads(settings["threads"])
    with backend.precision(settings["dtype"]):
        return _Group(settings, backend, instrument).time(report)


def require_rows(backend: Backend, names: Sequence[str]) -> None:
    """Check that a backend has all rows, before any timing.

    Raises:
        UnknownNameError: If a row is unknown.
        SettingError: If an option of a row is out of range.
    """
    extras = instrument_of(backend).extras()
    for name in names:
        if name in extras:
            continue
        try:
            parse_row(name)
        except UnknownNameError as error:
            call = f"bench --rows {name} --backends {backend.name}"
            raise UnknownNameError(call, "row", name, [*ROWS, *extras]) from error


class _Group:
    def __init__(self, settings: JobSettings, backend: Backend, instrument: Instrument) -> None:
        self._settings = settings
        self._backend = backend
        self._instrument = instrument
        model = SymbolModel(
            (CELLS[settings["cell"]](settings["units"]),), alphabet=settings["alphabet"]
        )
        host, start = model.init(np.random.default_rng(0))
        self._sizes = sizes_of(host, start)
        dtype = settings["dtype"]
        self._problem = BenchModel(
            settings["cell"],
            settings["units"],
            backend.from_host(host, dtype=dtype),
            backend.from_host(start, dtype=dtype),
            self._symbols,
        )
        self._dynamics = backend.dynamics(partial(model.transition, backend.xp))
        first = entry(backend, self._symbols(1), 0)
        probe(self._dynamics, self._problem.params, self._problem.state, first)

    def _symbols(self, count: int) -> Any:
        drawn = np.random.default_rng(1).integers(0, self._settings["alphabet"], count + 1)
        drawn = drawn.astype(np.int32)
        return self._backend.from_host({"symbol": drawn[:-1], "target": drawn[1:]})

    def time(self, report: Report) -> dict[str, Any]:
        extras = self._instrument.extras()
        names = list(self._settings["rows"]) or [*ROWS, *extras]
        left_out, ready = {}, dict[str, Calibrated]()
        works, memories, bases = (
            dict[str, Work](),
            dict[str, PeakMemory | None](),
            dict[str, str | None](),
        )
        for number, name in enumerate(names):
            report(READY * number / len(names))
            work = extras[name].work if name in extras else parse_row(name).work
            if work.kind == "rtrl" and self._settings["units"] > RTRL_UNITS:
                left_out[name] = f"exact RTRL is timed up to {RTRL_UNITS} units"
                continue
            try:
                ready[name], memories[name] = self._make(name, extras)
            except Exception as error:  # The other rows go on.
                left_out[name] = f"the row failed: {type(error).__name__}: {_first_line(error)}"
                continue
            works[name] = work
            bases[name] = extras[name].base if name in extras else base_of(work, names)
        seconds: Callable[[float], None] = lambda part: report(READY + (1 - READY) * part)  # noqa: E731
        times = take_turns(ready, self._settings["repetitions"], seconds)
        rooflines = self._rooflines(works)
        rows = {
            name: {
                "microseconds": times[name],
                "base": bases[name] if bases[name] in ready else None,
                "streams": works[name].streams,
                "items": ready[name].timed.items * ready[name].calls,
                "first_call_seconds": ready[name].first_call,
                "memory": _said(memories[name]),
                "roofline": rooflines[name],
            }
            for name in ready
        }
        return {
            "machine": self._machine(),
            "sizes": self._sizes._asdict(),
            "left_out": left_out,
            "rows": rows,
        }

    def _make(self, name: str, extras: dict[str, ExtraRow]) -> tuple[Calibrated, PeakMemory | None]:
        """Build a row, compile it, and measure its memory."""
        watched = self._instrument.watch()
        timed: Timed
        if name in extras:
            timed = extras[name].make(self._problem)
            return calibrate(timed, self._settings["seconds"]), watched()
        row = parse_row(name)
        items = items_of(row, self._backend, self._sizes.params, self._sizes.state)
        made: Forward | Learning
        if row.estimator is None:
            made = Forward(self._dynamics, self._problem, items, self._instrument)
        else:
            made = Learning(self._dynamics, row, self._problem, items, self._instrument)
        ready = calibrate(made, self._settings["seconds"])
        grown = watched()
        return ready, made.memory() or grown

    def _rooflines(self, works: dict[str, Work]) -> dict[str, dict[str, float]]:
        """Measure the machine, last as this takes memory; return the rooflines."""
        settings = self._settings
        machine = Machine(self._backend, settings["dtype"], settings["threads"])
        counts = {name: least(work, self._sizes) for name, work in works.items()}
        throughput = machine.throughput(each.touched for each in counts.values())
        operations = machine.operations()

        def spell(roofline: Roofline) -> dict[str, float]:
            read, update = throughput[roofline.touched]
            seconds = roofline.seconds(
                np.dtype(settings["dtype"]).itemsize,
                read_throughput=read,
                update_throughput=update,
                operation_throughput=operations,
            )
            return {
                "microseconds": 1e6 * seconds,
                **roofline._asdict(),
                "read_throughput": read,
                "update_throughput": update,
                "operation_throughput": operations,
            }

        return {name: spell(roofline) for name, roofline in counts.items()}

    def _machine(self) -> dict[str, Any]:
        pinned = None
        if hasattr(os, "sched_getaffinity") and hasattr(os, "sched_setaffinity"):
            pinned = len(os.sched_getaffinity(0))
        return {
            "device": self._backend.device,
            "hardware": self._instrument.hardware() or processor(),
            "threads": self._settings["threads"],
            "cores allowed": pinned,
            "compiled": self._backend.compiled,
        }


def sizes_of(params: Any, state: Any) -> Sizes:
    """Return the sizes of a model of `uoro.models` with one layer, as drawn by NumPy.

    The weights are all matrices but the embedding table, of which a step looks up one row.
    """
    layer, readout = params["0"], params["readout"]
    matrices = [leaf for leaf in (*layer.values(), *readout.values()) if leaf.ndim == 2]
    table = layer["embedding"] if "embedding" in layer else layer["input"]
    everything = sum(leaf.size for leaf in (*layer.values(), *readout.values()))
    return Sizes(
        params=everything,
        weights=sum(leaf.size for leaf in matrices) - table.size,
        state=sum(leaf.size for leaf in state["0"].values()),
    )


def processor() -> str:
    """Return the name of the processor, as known to the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _said(memory: PeakMemory | None) -> dict[str, Any] | None:
    return None if memory is None else asdict(memory)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
