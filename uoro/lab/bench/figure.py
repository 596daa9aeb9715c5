"""The figure: cost by number of units, and ratios to truncated backpropagation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uoro.drawing import colour, figure, marked
from uoro.lab.bench.table import cost, ratio
from uoro.lab.jobs import Done, Results

UNITS = 64
"""Ratios are drawn for the nearest number of units."""


def figures_of(results: Results) -> dict[str, list[Done]]:
    """Return the groups by backend and cell, each a figure; the fewest units first."""
    found: dict[str, list[Done]] = {}
    for done in sorted(results.values(), key=lambda done: int(done.settings["units"])):
        name = f"{done.settings['backend']}-{done.settings['cell']}"
        found.setdefault(name, []).append(done)
    return found


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw a figure for each backend and cell.

    Returns:
        The files.
    """
    paths = []
    for name, groups in figures_of(results).items():
        paths.append(folder / f"bench-{name}.png")
        with figure(paths[-1], 2, share=False) as (left, right):
            _costs(left, groups)
            _ratios(right, min(groups, key=lambda done: abs(done.settings["units"] - UNITS)))
    return paths


def _costs(axes: Any, groups: list[Done]) -> None:
    names = list(dict.fromkeys(name for done in groups for name in done.result["rows"]))
    for number, name in enumerate(names):
        there = [(done, done.result["rows"].get(name)) for done in groups]
        points = [(done.settings["units"], cost(row)) for done, row in there if row]
        medians = [each.median for _, each in points]
        axes.errorbar(
            [units for units, _ in points],
            medians,
            yerr=[
                [each.median - each.low for _, each in points],
                [each.high - each.median for _, each in points],
            ],
            **marked(number),
            capsize=2,
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    units = [done.settings["units"] for done in groups]
    axes.set_xticks(units, [str(each) for each in units])
    axes.minorticks_off()
    axes.set_xlabel("units")
    axes.set_ylabel("µs a step")
    axes.legend(fontsize=8, ncols=1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    settings = groups[0].settings
    axes.set_title(f"{settings['backend']}, {settings['cell']}: what a step costs")


def _ratios(axes: Any, done: Done) -> None:
    rows = done.result["rows"]
    found = [(name, ratio(rows, name)) for name in rows if rows[name]["base"] not in (None, name)]
    bars = [(name, each) for name, each in found if each is not None]
    axes.barh(
        range(len(bars)),
        [each.median - 1.0 for _, each in bars],
        left=1.0,
        xerr=[
            [each.median - each.low for _, each in bars],
            [each.high - each.median for _, each in bars],
        ],
        color=colour(1),
        alpha=0.75,
    )
    labels = [f"{name} / {rows[name]['base']}" for name, _ in bars]
    axes.set_yticks(range(len(bars)), labels, fontsize=9)
    axes.invert_yaxis()
    for place, (_, each) in enumerate(bars):
        axes.annotate(f"  {each.median:.2f}", (max(1.0, each.high), place), va="center", fontsize=9)
    axes.axvline(1.0, color="0.35", linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.15)
    axes.set_xlabel("times the truncated row")
    axes.set_title(f"{done.settings['units']} units: ratios within one run")
