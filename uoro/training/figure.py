"""The figure of one or several runs: the loss, and below it a panel for each monitor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from uoro.drawing import (
    DASHES,
    SPAN,
    colour,
    decades_of_loss,
    drawable,
    figure,
    legend_beside,
    level,
    lone,
    sample,
)
from uoro.errors import SettingError, UnknownNameError
from uoro.training.curve import HIGH, LOW, Event, RunCurve, read_curve

# Markers of known events; other events take the markers left, in order.
_MARKS = {"skipped": "x", "reset": "v"}
_OTHER_MARKS = ("D", "s", "P", "*", "^")
# Letters of a run's name in the legend.
_LONGEST = 32


def draw_runs(path: Path, runs: Sequence[Path], *, monitors: Sequence[str] = ()) -> None:
    """Draw the loss of runs against the items of the stream, as a PNG.

    The recent loss is a line, the loss between two lines of the log a pale line behind it, a known
    entropy rate a dashed line. Events are marked on the line of their run.

    Args:
        path: PNG to write; its folder is created.
        runs: Folders of runs, finished or in progress.
        monitors: Names of monitored numbers, or the part of the names before a slash; one panel
            for each.

    Raises:
        SettingError: If there is no run.
        UnknownNameError: If no run has a monitor of that name.
        CheckpointError: If the metrics of a run are missing or damaged.
    """
    curves = [read_curve(run) for run in runs]
    if not curves:
        raise SettingError("draw_runs(runs=...): expected one folder or more, got none.")
    panels = [_chosen(curves, monitor) for monitor in monitors]
    heights = [5.4] + [2.6] * len(panels)
    size = 9.6, sum(heights)
    with figure(path, rows=len(heights), font=10, size=size, heights=heights) as axes:
        _draw_losses(axes[0], curves)
        for below, monitor, names in zip(axes[1:], monitors, panels, strict=True):
            _draw_monitor(below, curves, monitor, names)
        _set_items(axes[-1], curves)


def _draw_losses(axes: Any, curves: list[RunCurve]) -> None:
    samples: list[Any] = []
    marks: dict[str, Any] = {}
    shown: list[float] = []
    starts: list[float] = []
    for i, (curve, label) in enumerate(zip(curves, _labels(curves), strict=True)):
        loss, recent = (drawable(*curve.column(name)) for name in ("loss", "recent"))
        recent = recent if len(recent[0]) else loss
        axes.plot(*loss, color=colour(i), alpha=0.25, linewidth=0.8, zorder=2)
        axes.plot(*recent, color=colour(i), linewidth=1.8, marker=lone(recent[0]), zorder=3)
        samples.append(sample(label, color=colour(i), lw=2.5))
        _draw_events(axes, curve.events, recent, colour(i), marks)
        last_known = drawable(*curve.column("persistence"))
        if len(last_known[0]):
            dots = {"color": colour(i), "linestyle": (0, (1, 2)), "linewidth": 1.2}
            axes.plot(*last_known, **dots, zorder=2)
            samples.append(sample("persistence", color=colour(i), ls=(0, (1, 2)), lw=1.2))
            shown += last_known[1].tolist()
        shown += [*loss[1], *recent[1]]
        starts += [float(value) for value in loss[1][:1] if value > 0]
    rates = sorted({curve.entropy_rate for curve in curves if curve.entropy_rate is not None})
    for rate in rates:
        label, dashes = f"entropy rate, {rate:.4g}", (0, (5, 3))
        level(axes, rate, label, dashes=dashes)
        samples.append(sample(label, color="0.35", ls=dashes, lw=1.2))
    samples += [sample(kind, color="0.25", ls="", marker=m, ms=6) for kind, m in marks.items()]
    decades_of_loss(axes, shown, max(starts, default=1.0), levels=rates)
    names = {str(curve.status["loss_name"]) for curve in curves if curve.status.get("loss_name")}
    axes.set_ylabel(names.pop() if len(names) == 1 else "loss")
    axes.set_title(_title(curves))
    legend_beside(axes, samples)


def _draw_events(
    axes: Any, events: list[Event], line: tuple[Any, Any], colour: str, marks: dict[str, Any]
) -> None:
    """Mark events on the line of a run; add markers of new kinds to ``marks``."""
    items, values = line
    if not len(items):
        return
    for kind in dict.fromkeys(event.kind for event in events):
        if kind not in marks:
            others = [mark for mark in _OTHER_MARKS if mark not in marks.values()]
            marks[kind] = _MARKS.get(kind) or (others or _OTHER_MARKS)[0]
        places = np.array([event.items for event in events if event.kind == kind])
        # Dark edges: on its own line, a mark of the line's colour would not be seen.
        dark = "0.1"
        colours = {"color": dark} if marks[kind] == "x" else {"color": colour, "edgecolors": dark}
        heights = np.interp(places, items, values)
        axes.scatter(places, heights, marker=marks[kind], s=34, linewidths=1.2, zorder=4, **colours)


def _draw_monitor(axes: Any, curves: list[RunCurve], monitor: str, names: list[str]) -> None:
    shown: list[float] = []
    for i, curve in enumerate(curves):
        for name, dashes in zip(names, cycle(DASHES)):
            items, values = drawable(*curve.column(name))
            axes.plot(
                items, values, color=colour(i), linestyle=dashes, linewidth=1.1, marker=lone(items)
            )
            low, high = (drawable(*curve.column(name + end)) for end in (LOW, HIGH))
            # One end is missing where the other was not finite.
            places, first, second = np.intersect1d(low[0], high[0], return_indices=True)
            bottom, top = low[1][first], high[1][second]
            axes.fill_between(places, bottom, top, color=colour(i), alpha=0.18, linewidth=0)
            shown += [*values, *bottom, *top]
    if shown and min(shown) > 0 and max(shown) > SPAN * min(shown):
        axes.set_yscale("log")
    elif shown and min(shown) <= 0 <= max(shown):
        axes.axhline(0.0, color="0.35", linewidth=0.8, zorder=1)
    axes.set_ylabel(monitor)
    if len(names) > 1:
        lines = zip(names, cycle(DASHES))
        legend_beside(axes, [sample(name, color="0.25", ls=d, lw=1.4) for name, d in lines])


def _chosen(curves: list[RunCurve], monitor: str) -> list[str]:
    """Return the names of the lines of a panel; the ends of a band are no lines."""
    known = sorted({name for curve in curves for name in curve.monitors})
    lines = [
        name
        for name in known
        if not any(name.endswith(end) and name.removesuffix(end) in known for end in (LOW, HIGH))
    ]
    chosen = [name for name in lines if name == monitor or name.startswith(monitor + "/")]
    if not chosen:
        raise UnknownNameError(f"draw_runs(monitors={monitor!r})", "monitor", monitor, lines)
    return chosen


def _set_items(axes: Any, curves: list[RunCurve]) -> None:
    """Label the horizontal axis, in decades if the runs span enough of them."""
    places = np.concatenate([curve.column("loss").items for curve in curves])
    places = places[places > 0]
    if len(places) and places.max() >= SPAN * places.min():
        axes.set_xscale("log")
    axes.set_xlabel("items of the stream")


def _labels(curves: list[RunCurve]) -> list[str]:
    """Return the folders of the runs, with as much of the paths as tells the runs apart."""
    names = [curve.name for curve in curves]
    paths = [str(curve.path.resolve()) for curve in curves]
    if len(set(names)) < len(set(paths)):
        shared = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, shared) for path in paths]
    return [name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :] for name in names]


def _title(curves: list[RunCurve]) -> str:
    """Return what all runs have in common: task, estimator, backend."""
    said: dict[str, set[str]] = {"title": set(), "estimator": set(), "backend": set()}
    for name, values in said.items():
        values.update(str(curve.status[name]) for curve in curves if curve.status.get(name))
    alike = {name: values.pop() for name, values in said.items() if len(values) == 1}
    how = " on ".join(alike[name] for name in ("estimator", "backend") if name in alike)
    return "\n".join(line for line in (alike.get("title", ""), how) if line)
