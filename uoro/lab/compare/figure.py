"""The figure of a comparison: one colour an estimator, one line style a backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uoro.arguments import require_kind, require_path
from uoro.drawing import colour, decades_of_loss, drawable, figure, legend_beside, lone, sample
from uoro.lab.compare.comparison import Compared, Comparison

# Thick and pale below, thin and dashed on top, so that curves that coincide are all seen.
STYLES: tuple[dict[str, Any], ...] = (
    {"linestyle": "-", "linewidth": 4.0, "alpha": 0.35},
    {"linestyle": "-", "linewidth": 1.6},
    {"linestyle": (0, (1, 2)), "linewidth": 2.6},
    {"linestyle": "--", "linewidth": 1.2},
)


def draw(path: Path, plan: Comparison, cells: list[Compared]) -> None:
    """Draw the loss against the items of the stream, as a PNG.

    Args:
        path: PNG to write; its folder is created.
        plan: Comparison.
        cells: Runs to draw.

    Raises:
        SettingError: If ``path`` is no path, or ``plan`` no comparison.
    """
    require_kind("draw(path, plan, cells)", "plan", plan, Comparison, "a Comparison")
    path = require_path("draw(path, plan, cells)", "path", path)
    estimators = list(dict.fromkeys(cell.estimator for cell in cells))
    backends = list(dict.fromkeys(cell.backend for cell in cells))
    colours = {name: colour(number) for number, name in enumerate(estimators)}
    styles = {name: STYLES[number % len(STYLES)] for number, name in enumerate(backends)}
    with figure(path, font=10, size=(9.6, 5.4)) as (axes,):
        shown: list[float] = []
        for cell in cells:
            items, losses = drawable([p.item for p in cell.curve], [p.loss for p in cell.curve])
            shown += losses.tolist()
            line = styles[cell.backend] | {"color": colours[cell.estimator]}
            axes.plot(items, losses, marker=lone(losses), **line)
        axes.set(xscale="log", xlabel="items of the stream", ylabel=plan.task.loss_name)
        first = next((cell.first_loss for cell in cells if cell.first_loss > 0), 1.0)
        decades_of_loss(axes, shown, first)
        axes.set_title(f"{plan.task.title}\nseed {plan.seed}, {plan.dtype}")
        by_estimator = [sample(name, color=colours[name], lw=2.5) for name in estimators]
        by_backend = [sample(name, color="0.25", **styles[name]) for name in backends]
        legend_beside(axes, by_estimator, title="estimator")
        legend_beside(axes, by_backend, title="backend", low=True)
