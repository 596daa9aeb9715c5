"""The figure of a forecast: the last rows, predicted and true."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uoro.drawing import UNDRAWABLE, colour, figure, legend_beside, sample
from uoro.training.scores import Scores

MOST = 6
"""Largest number of targets drawn."""


def draw_forecast(path: Path, title: str, scores: Scores) -> None:
    """Draw the last rows of each target, true and as predicted ahead of time, as a PNG.

    Args:
        path: PNG to write.
        title: Title of the run.
        scores: Errors of the run, with its last rows.
    """
    targets = scores.forecast.targets[:MOST]
    ahead = scores.forecast.horizon
    last = np.where(np.abs(scores.last) < UNDRAWABLE, scores.last, np.nan)
    rows = np.arange(-len(last) + 1, 1)
    heights = [3.2] * len(targets)
    size = 9.6, 1.0 + sum(heights)
    with figure(path, rows=len(targets), font=10, size=size, heights=heights) as axes:
        for place, (panel, name) in enumerate(zip(axes, targets, strict=True)):
            true, predicted = last[:, 0, place], last[:, 1, place]
            panel.plot(rows, true, color="0.25", linewidth=1.6, marker=".", markersize=3)
            panel.plot(rows, predicted, color=colour(0), linewidth=1.3)
            panel.set_ylabel(name)
        axes[0].set_title(f"{title}\nthe last {len(last)} rows")
        axes[-1].set_xlabel("rows, counted from the last")
        far = f"predicted {ahead} row{'s' if ahead > 1 else ''} before"
        legend_beside(
            axes[0],
            [sample("true", color="0.25", lw=1.6), sample(far, color=colour(0), lw=1.3)],
        )
