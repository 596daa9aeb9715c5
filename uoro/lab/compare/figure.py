"""The figure of a comparison: one curve an estimator, one line style a backend."""

from __future__ import annotations

import math
from pathlib import Path

from uoro.arguments import require_kind, require_path
from uoro.drawing import COLOURS, EXPLODED, UNDRAWABLE
from uoro.lab.compare.comparison import Compared, Comparison

# Thick and pale below, thin and dashed on top, so that curves that coincide are all seen.
STYLES = (("-", 4.0, 0.35), ("-", 1.6, 1.0), ((0, (1, 2)), 2.6, 1.0), ("--", 1.2, 1.0))


def draw(path: Path, plan: Comparison, cells: list[Compared]) -> None:
    """Draw the loss against the items seen and write it as a PNG.

    Args:
        path: Where to; its folder is made if it is missing.
        plan: What was compared.
        cells: The curves.

    Raises:
        SettingError: If the path is none, or the plan.
    """
    require_kind("draw(path, plan, cells)", "plan", plan, Comparison, "a Comparison")
    path = require_path("draw(path, plan, cells)", "path", path)
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    estimators = list(dict.fromkeys(cell.estimator for cell in cells))
    backends = list(dict.fromkeys(cell.backend for cell in cells))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(estimators)}
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(backends)}

    figure, axes = plt.subplots(figsize=(9.6, 5.4), dpi=150, layout="constrained")
    values: list[float] = []
    for cell in cells:
        style, width, alpha = styles[cell.backend]
        points = [p for p in cell.curve if math.isfinite(p.loss) and p.loss < UNDRAWABLE]
        values += [p.loss for p in points if p.loss > 0]
        axes.plot(
            [p.item for p in points],
            [p.loss for p in points],
            color=colours[cell.estimator],
            linestyle=style,
            linewidth=width,
            alpha=alpha,
            marker="o" if len(points) < 3 else None,
        )
    axes.set_xscale("log")
    if values and max(values) > 30 * min(values):
        axes.set_yscale("log")
        start = next((cell.first_loss for cell in cells if cell.first_loss > 0), 1.0)
        axes.set_ylim(max(min(values), 1e-20) / 3, min(max(values), EXPLODED * start) * 3)
    axes.set_xlabel("items of the stream")
    axes.set_ylabel(plan.task.loss_name)
    axes.set_title(f"{plan.task.title}\nseed {plan.seed}, {plan.dtype}", fontsize=12)
    axes.grid(which="major", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

    by_estimator = [Line2D([], [], color=colours[name], lw=2.5, label=name) for name in estimators]
    by_backend = [
        Line2D([], [], color="0.25", ls=style, lw=width, alpha=alpha, label=name)
        for name, (style, width, alpha) in styles.items()
    ]
    legend = axes.legend(
        handles=by_estimator,
        title="estimator",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
    )
    axes.add_artist(legend)
    axes.legend(
        handles=by_backend,
        title="backend",
        loc="lower left",
        bbox_to_anchor=(1.01, 0.0),
        frameon=False,
        handlelength=3.5,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
