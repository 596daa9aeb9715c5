"""What all figures share: palette, panels, legends, axes in decades, and the PNG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# The colours of Okabe and Ito first: distinct for most eyes, and in grey.
COLOURS = (
    "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00",
    "#882255", "#999933", "#6A3D9A", "#7F7F7F", "#8B4513",
)  # fmt: skip
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (2, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (1, 1)),
    (0, (4, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

CEILING = 1e15
"""Losses above the ceiling are drawn at the ceiling."""

EXPLODED = 1e9
"""A diverging run leaves the figure at this multiple of the first loss."""

UNDRAWABLE = 1e60
"""Larger values overflow in the plotting library; every figure leaves them out."""

SPAN = 30.0
"""An axis is in decades if the largest value is this many times the smallest, or more."""


def colour(number: int) -> str:
    """Return a colour of the palette; after the last comes the first."""
    return COLOURS[number % len(COLOURS)]


def style(number: int) -> dict[str, Any]:
    """Return colour and dashes of a line."""
    return {"color": colour(number), "linestyle": DASHES[number % len(DASHES)]}


def marked(number: int) -> dict[str, Any]:
    """Return colour, dashes and marker of a line through measured points."""
    return {**style(number), "marker": MARKERS[number % len(MARKERS)]}


@contextmanager
def figure(
    path: Path,
    columns: int = 1,
    *,
    rows: int = 1,
    share: bool = True,
    font: float = 13,
    size: tuple[float, float] | None = None,
    heights: Sequence[float] | None = None,
) -> Iterator[list[Any]]:
    """Build a figure of panels, and write the PNG at the end of the block.

    Args:
        path: PNG to write; its folder is created.
        columns: Number of panels side by side.
        rows: Number of panels one below the other; panels come row by row.
        share: Whether panels side by side share the vertical axis.
        font: Size of the text, in points.
        size: Width and height in inches; default by the number of panels.
        heights: Heights of the rows, in proportion; panels then share the horizontal axis.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    text: Any = {"font.size": font, "axes.titlesize": max(font, 12)}
    text["legend.fontsize"] = min(font, 11)
    # A long run has more points than the plotting library takes at once.
    with plt.rc_context({**text, "agg.path.chunksize": 10_000}):
        made, panels = plt.subplots(
            rows,
            columns,
            figsize=size or (8.0 if columns == 1 else 6.2 * columns, 5.4 * rows),
            dpi=130,
            layout="constrained",
            squeeze=False,
            sharex=heights is not None,
            sharey=share and columns > 1,
            height_ratios=heights,
        )
        axes = list(panels.flat)
        try:
            yield axes
            for one in axes:
                one.grid(which="major", alpha=0.3)
                for side in ("top", "right"):
                    one.spines[side].set_visible(False)
            path.parent.mkdir(parents=True, exist_ok=True)
            made.savefig(path)
        finally:
            plt.close(made)


def curves(
    axes: Any,
    items: Sequence[float],
    losses: Sequence[Sequence[float]],
    *,
    label: str,
    number: int,
) -> None:
    """Draw the median of several runs as a line, and their range as a band.

    Losses that diverged leave the figure at the top.
    """
    values = np.minimum(np.nan_to_num(np.array(losses, float), nan=CEILING), CEILING)
    axes.plot(items, np.median(values, axis=0), **style(number), linewidth=2, label=label)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(items, low, high, color=colour(number), alpha=0.18, linewidth=0)


def level(axes: Any, height: float, label: str, *, dashes: Any = (0, (1, 2))) -> None:
    """Draw a horizontal line that is no measurement."""
    axes.axhline(height, color="0.35", linewidth=1.2, linestyle=dashes, label=label)


def drawable(items: Any, values: Any) -> tuple[Any, Any]:
    """Return the points whose values are finite and do not overflow in the plotting library."""
    items, values = np.asarray(items), np.asarray(values, float)
    kept = np.isfinite(values) & (np.abs(values) < UNDRAWABLE)
    return items[kept], values[kept]


def lone(values: Sequence[float]) -> str | None:
    """Return a marker for a line of so few points that it would not be seen."""
    return "o" if len(values) < 3 else None


def decades_of_loss(
    axes: Any, losses: Sequence[float], first: float, *, levels: Sequence[float] = ()
) -> None:
    """Draw the vertical axis in decades if the losses span enough of them.

    Args:
        axes: Panel.
        losses: Losses that the panel shows.
        first: First loss; the axis ends at `EXPLODED` times this loss.
        levels: Horizontal lines that the panel should show.
    """
    positive = [loss for loss in losses if loss > 0]
    if positive and max(positive) > SPAN * min(positive):
        lowest = min([*positive, *(each for each in levels if each > 0)])
        axes.set_yscale("log")
        axes.set_ylim(max(lowest, 1e-20) / 2, min(max(positive), EXPLODED * first) * 2)


def sample(label: str, **line: Any) -> Any:
    """Return a line that only a legend shows."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **line)


def legend_beside(
    axes: Any, samples: Sequence[Any], *, title: str | None = None, low: bool = False
) -> None:
    """Add a legend to the right of a panel, at the top or the bottom; earlier legends stay."""
    earlier = axes.get_legend()
    axes.legend(
        handles=list(samples),
        title=title,
        loc="lower left" if low else "upper left",
        bbox_to_anchor=(1.01, 0.0 if low else 1.0),
        frameon=False,
        handlelength=3.0,
    )
    if earlier is not None:
        axes.add_artist(earlier)
