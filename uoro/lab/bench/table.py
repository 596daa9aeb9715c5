"""The timings of a group as a table and in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from uoro.lab.bench.timing import Spread, ratios, spread
from uoro.lab.jobs import Done

HEADING = (
    "row",
    "µs a step",
    "quartiles",
    "a stream",
    "ratio",
    "quartiles",
    "to",
    "× roofline",
    "MiB",
    "× params",
    "first s",
)


def cost(row: dict[str, Any]) -> Spread:
    """Return the microseconds per character of all streams together."""
    return spread(row["microseconds"])


def ratio(rows: dict[str, Any], name: str) -> Spread | None:
    """Return the ratio of a row to its base, a truncated row."""
    base = rows[name]["base"]
    if base is None:
        return None
    return ratios(rows[name]["microseconds"], rows[base]["microseconds"])


def over_roofline(row: dict[str, Any]) -> float:
    """Return the time of a row in multiples of its roofline."""
    return cost(row).median / float(row["roofline"]["microseconds"])


def over_params(done: Done, row: dict[str, Any]) -> float | None:
    """Return the memory of a row in multiples of the memory of the params."""
    if row["memory"] is None:
        return None
    params = done.result["sizes"]["params"] * np.dtype(done.settings["dtype"]).itemsize
    return float(row["memory"]["bytes"] / params)


def table(done: Done) -> list[list[str]]:
    """Return the rows of a table, the heading first."""
    rows = done.result["rows"]
    return [list(HEADING), *(_line(done, rows, name) for name in rows)]


def facts(done: Done) -> list[str]:
    """Return what was timed and how, in lines."""
    settings, machine = done.settings, done.result["machine"]
    sizes = done.result["sizes"]
    cores = machine["cores allowed"]
    pinned = f"pinned to {cores} core{'s' * (cores > 1)}" if cores else "not pinned"
    threads = machine["threads"]
    versions = ", ".join(f"{name} {number}" for name, number in done.made["versions"].items())
    lines = [
        f"{settings['cell']}, {settings['units']} units, {sizes['params']:,} params, alphabet "
        f"{settings['alphabet']}, {settings['dtype']}, Adam, batch 1 unless @B. Medians and "
        f"quartiles of {settings['repetitions']} turns of about {settings['seconds']:g} s.",
        f"{machine['hardware']} as {machine['device']}, {threads} thread{'s' * (threads > 1)}, "
        f"{pinned}. Python {done.made['python']}, {versions}.",
    ]
    lines += sorted({row["memory"]["how"] for row in done.result["rows"].values() if row["memory"]})
    if len(lines) > 2:
        lines[2:] = [f"Memory: {'; '.join(lines[2:])}."]
    left = done.result["left_out"]
    lines += [f"Left out: {name}, as {reason}." for name, reason in left.items()]
    return lines


def _line(done: Done, rows: dict[str, Any], name: str) -> list[str]:
    row = rows[name]
    time, against, multiple = cost(row), ratio(rows, name), over_params(done, row)
    alone = row["base"] in (None, name)
    return [
        name,
        _number(time.median),
        f"{_number(time.low)}–{_number(time.high)}",
        _number(time.median / row["streams"]) if row["streams"] > 1 else "",
        "" if against is None or alone else _number(against.median),
        "" if against is None or alone else f"{_number(against.low)}–{_number(against.high)}",
        "" if alone else str(row["base"]),
        _number(over_roofline(row)),
        "" if row["memory"] is None else f"{row['memory']['bytes'] / 2**20:,.1f}",
        "" if multiple is None else f"{multiple:,.1f}",
        f"{row['first_call_seconds']:.1f}",
    ]


def _number(value: float) -> str:
    """Return a number with three digits, more only before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
