"""What the figures have in common: sizes, styles that are told apart in grey, spreads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# Okabe and Ito's colours, told apart by most eyes and in grey.
COLOURS = (
    "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00",
    "#882255", "#999933", "#6A3D9A", "#7F7F7F", "#8B4513",
)  # fmt: skip
DASHES = (
    "-",
    (0, (6, 2)),
    (0, (2, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (1, 1)),
    (0, (4, 1, 1, 1, 1, 1)),
)
CEILING = 1e15
"""Losses above the ceiling are drawn on it."""

EXPLODED = 1e9
"""An exploding run leaves the figure at this multiple of the first loss."""

UNDRAWABLE = 1e60
"""Losses above this leave every figure; they overflow in the plotting library."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@contextmanager
def figure(
    path: Path, columns: int = 1, *, rows: int = 1, share: bool = True
) -> Iterator[list[Any]]:
    """Make a figure of panels side by side, and write it when they are filled.

    Args:
        path: Where to; its folder is made if it is missing.
        columns: How many panels side by side.
        rows: How many one below the other; they come row by row.
        share: Whether they have one vertical axis.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    size: Any = {"font.size": 13, "axes.titlesize": 13, "legend.fontsize": 11}
    with plt.rc_context(size):
        made, panels = plt.subplots(
            rows,
            columns,
            figsize=(8.0 if columns == 1 else 6.2 * columns, 5.4 * rows),
            dpi=130,
            layout="constrained",
            squeeze=False,
            sharey=share and columns > 1,
        )
        axes = list(panels.flat)
        yield axes
        for one in axes:
            one.grid(which="major", alpha=0.3)
            for side in ("top", "right"):
                one.spines[side].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(path)
        plt.close(made)


def curves(
    axes: Any,
    items: Sequence[float],
    losses: Sequence[Sequence[float]],
    *,
    label: str,
    style: int,
) -> None:
    """Draw the median of several runs as a line, and from the least to the most as a band.

    What has diverged leaves the figure at its top.
    """
    values = np.minimum(np.nan_to_num(np.array(losses, float), nan=CEILING), CEILING)
    colour = COLOURS[style % len(COLOURS)]
    middle = np.median(values, axis=0)
    axes.plot(
        items, middle, color=colour, linestyle=DASHES[style % len(DASHES)], linewidth=2, label=label
    )
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(items, low, high, color=colour, alpha=0.18, linewidth=0)


def level(axes: Any, height: float, label: str, *, dashes: Any = (0, (1, 2))) -> None:
    """Draw a horizontal line that is no measurement."""
    axes.axhline(height, color="0.35", linewidth=1.2, linestyle=dashes, label=label)
