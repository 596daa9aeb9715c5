"""The table of a comparison."""

from __future__ import annotations

from rich import box
from rich.table import Table

from uoro.lab.compare import Compared, Comparison

COLOURS = {
    "converged": "green",
    "learning": "cyan",
    "flat": "yellow",
    "undecided": "yellow",
    "diverged": "red",
}


def shown(plan: Comparison, cells: list[Compared]) -> Table:
    """Return the table of a comparison, one row for each run."""
    reference = plan.backends[0].name
    table = Table(
        title=f"{plan.task.loss_name}; gradients against {reference}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    table.add_column("backend")
    table.add_column("estimator")
    for heading in ("items", "recent", "final"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for heading in ("items/s", "deviation"):
        table.add_column(heading, justify="right")
    for cell in cells:
        fewer = f" of {cell.asked:,}" if cell.items < cell.asked else ""
        throughput = "-" if cell.items_per_second is None else f"{cell.items_per_second:,.0f}"
        deviation = "-" if cell.deviation is None else f"{cell.deviation:.1e}"
        table.add_row(
            cell.backend,
            cell.estimator,
            f"{cell.items:,}{fewer}",
            f"{cell.recent_loss:.3g}",
            f"{cell.final_loss:.3g}",
            f"[{COLOURS[cell.verdict]}]{cell.verdict}[/]" + (f", {cell.note}" if cell.note else ""),
            throughput,
            "reference" if cell.backend == reference else deviation,
        )
    return table
