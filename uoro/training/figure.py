"""The figure of one or several runs: the loss, and below it the monitors that are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uoro.drawing import COLOURS, EXPLODED, UNDRAWABLE
from uoro.errors import SettingError, UnknownNameError
from uoro.training.curve import HIGH, LOW, Column, Event, RunCurve, read_curve

_STYLES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (1, 1)))
# Marks of events: known ones have their own, others take what is left, in order.
_MARKS = {"skipped": "x", "reset": "v"}
_OTHER_MARKS = ("D", "s", "P", "*", "^")
# Above this ratio of largest to smallest, an axis is in decades.
_DECADES = 30.0
# Letters of a run's name in the legend.
_LONGEST = 32


def draw_runs(path: Path, runs: Sequence[Path], *, monitors: Sequence[str] = ()) -> None:
    """Draw the loss of runs against the items they have seen, and write it as a PNG.

    The recent loss is a line, the loss between two lines of the log is pale behind it, the entropy
    rate is dashed where it is known, and what happened to a run is marked on its line.

    Args:
        path: Where to; its folder is made if it is missing.
        runs: Folders of runs, which may be at work.
        monitors: Names, or their beginnings up to a slash, of numbers to draw below, a panel each.

    Raises:
        SettingError: If there is no run.
        UnknownNameError: If no run has a monitor of that name.
        CheckpointError: If a run has no metrics, or they are damaged.
    """
    curves = [read_curve(run) for run in runs]
    if not curves:
        raise SettingError("draw_runs(runs=[]): there is nothing to draw. Give a run's folder.")
    panels = [_chosen(curves, monitor) for monitor in monitors]

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    # A long run has more points than the drawing library takes at once.
    with plt.rc_context({"agg.path.chunksize": 10_000}):
        figure, stack = plt.subplots(
            1 + len(panels),
            1,
            figsize=(9.6, 5.4 + 2.6 * len(panels)),
            dpi=150,
            layout="constrained",
            sharex=True,
            squeeze=False,
            height_ratios=[5.4] + [2.6] * len(panels),
        )
        axes = [row[0] for row in stack]
        _draw_losses(axes[0], curves)
        for below, monitor, names in zip(axes[1:], monitors, panels, strict=True):
            _draw_monitor(below, curves, monitor, names)
        _set_items(axes[-1], curves)
        for one in axes:
            one.grid(which="major", alpha=0.3)
            for side in ("top", "right"):
                one.spines[side].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight")
        plt.close(figure)


def _draw_losses(axes: Any, curves: list[RunCurve]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    marks: dict[str, Any] = {}
    shown: list[float] = []
    starts: list[float] = []
    labels = _labels(curves)
    for i, curve in enumerate(curves):
        colour = COLOURS[i % len(COLOURS)]
        loss, recent = _drawable(curve.column("loss")), _drawable(curve.column("recent"))
        recent = recent if len(recent.items) else loss
        axes.plot(*loss, color=colour, alpha=0.25, linewidth=0.8, zorder=2)
        marker = "o" if len(recent.items) < 3 else None
        axes.plot(*recent, color=colour, linewidth=1.8, marker=marker, zorder=3)
        handles.append(Line2D([], [], color=colour, lw=2.5, label=labels[i]))
        _draw_events(axes, curve.events, recent, colour, marks)
        shown += [*loss.values, *recent.values]
        starts += [float(value) for value in loss.values[:1] if value > 0]
    rates = sorted({curve.entropy_rate for curve in curves if curve.entropy_rate is not None})
    for rate in rates:
        axes.axhline(rate, color="0.35", linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        label = f"entropy rate, {rate:.4g}"
        handles.append(Line2D([], [], color="0.35", ls=(0, (5, 3)), lw=1.2, label=label))
    handles += [
        Line2D([], [], color="0.25", ls="", marker=mark, ms=6, label=kind)
        for kind, mark in marks.items()
    ]
    _set_losses(axes, shown, max(starts, default=1.0), rates)
    names = {str(curve.status["loss_name"]) for curve in curves if curve.status.get("loss_name")}
    axes.set_ylabel(names.pop() if len(names) == 1 else "loss")
    axes.set_title(_title(curves), fontsize=12)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)


def _draw_events(
    axes: Any, events: list[Event], line: Column, colour: str, marks: dict[str, Any]
) -> None:
    """Mark events on a run's line; adds to ``marks`` those that are new."""
    if not len(line.items):
        return
    for kind in dict.fromkeys(event.kind for event in events):
        if kind not in marks:
            others = [mark for mark in _OTHER_MARKS if mark not in marks.values()]
            marks[kind] = _MARKS.get(kind) or (others or _OTHER_MARKS)[0]
        places = np.array([event.items for event in events if event.kind == kind])
        heights = np.interp(places, line.items, line.values)
        # Dark, as on its own line a mark of the line's colour is not seen.
        dark = "0.1"
        colours = {"color": dark} if marks[kind] == "x" else {"color": colour, "edgecolors": dark}
        axes.scatter(places, heights, marker=marks[kind], s=34, linewidths=1.2, zorder=4, **colours)


def _draw_monitor(axes: Any, curves: list[RunCurve], monitor: str, names: list[str]) -> None:
    from matplotlib.lines import Line2D

    shown: list[float] = []
    for i, curve in enumerate(curves):
        colour = COLOURS[i % len(COLOURS)]
        for name, style in zip(names, _STYLES * len(names), strict=False):
            column = _drawable(curve.column(name))
            marker = "o" if len(column.items) < 3 else None
            axes.plot(*column, color=colour, linestyle=style, linewidth=1.1, marker=marker)
            shown += list(column.values)
            low, high = _drawable(curve.column(name + LOW)), _drawable(curve.column(name + HIGH))
            # One end may be missing where the other was not finite.
            places, first, second = np.intersect1d(low.items, high.items, return_indices=True)
            bottom, top = low.values[first], high.values[second]
            axes.fill_between(places, bottom, top, color=colour, alpha=0.18, linewidth=0)
            shown += [*bottom, *top]
    if shown and min(shown) > 0 and max(shown) > _DECADES * min(shown):
        axes.set_yscale("log")
    elif shown and min(shown) <= 0 <= max(shown):
        axes.axhline(0.0, color="0.35", linewidth=0.8, zorder=1)
    axes.set_ylabel(monitor)
    if len(names) > 1:
        handles = [
            Line2D([], [], color="0.25", ls=style, lw=1.4, label=name)
            for name, style in zip(names, _STYLES * len(names), strict=False)
        ]
        axes.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            frameon=False,
            handlelength=3.0,
        )


def _chosen(curves: list[RunCurve], monitor: str) -> list[str]:
    """Name the lines of a panel; the ends of a band are no lines of their own."""
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


def _drawable(column: Column) -> Column:
    """Leave out what is not finite, or overflows in the drawing library."""
    kept = np.isfinite(column.values) & (np.abs(column.values) < UNDRAWABLE)
    return Column(column.items[kept], column.values[kept])


def _set_losses(axes: Any, shown: list[float], start: float, rates: list[float]) -> None:
    """Choose the vertical axis: in decades where the losses span some."""
    positive = [value for value in shown if value > 0]
    if positive and max(positive) > _DECADES * min(positive):
        lowest = min([*positive, *(rate for rate in rates if rate > 0)])
        axes.set_yscale("log")
        axes.set_ylim(max(lowest, 1e-20) / 2, min(max(positive), EXPLODED * start) * 2)


def _set_items(axes: Any, curves: list[RunCurve]) -> None:
    """Choose the horizontal axis: in decades where the runs span some."""
    places = np.concatenate([curve.column("loss").items for curve in curves])
    places = places[places > 0]
    if len(places) and places.max() >= _DECADES * places.min():
        axes.set_xscale("log")
    axes.set_xlabel("items of the stream")


def _labels(curves: list[RunCurve]) -> list[str]:
    """Name the runs by their folders, with as much of the path as tells them apart."""
    names = [curve.name for curve in curves]
    paths = [str(curve.path.resolve()) for curve in curves]
    if len(set(names)) < len(set(paths)):
        shared = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, shared) for path in paths]
    return [name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :] for name in names]


def _title(curves: list[RunCurve]) -> str:
    """Say what all runs have in common, as far as they say it."""
    said: dict[str, set[str]] = {"title": set(), "estimator": set(), "backend": set()}
    for name, values in said.items():
        values.update(str(curve.status[name]) for curve in curves if curve.status.get(name))
    alike = {name: values.pop() for name, values in said.items() if len(values) == 1}
    how = " on ".join(alike[name] for name in ("estimator", "backend") if name in alike)
    return "\n".join(line for line in (alike.get("title", ""), how) if line)
