"""``uoro runs`` and ``uoro plot``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uoro.cli.help import console as make_console
from uoro.cli.help import words
from uoro.errors import CheckpointError, SettingError
from uoro.training import RunEntry, draw_runs, list_runs
from uoro.training.curve import METRICS

COLOURS = {
    "running": "cyan",
    "done": "green",
    "stopped": "yellow",
    "interrupted": "yellow",
    "failed": "red",
    "killed": "red",
    "unreadable": "red",
}


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that holds runs, at any depth")] = Path(
        "runs"
    ),
) -> None:
    """List training runs: steps, losses, and whether each is at work.

    A run is "running" while a process works on it; a run that was killed is called "killed".
    "recent" and "cumulated" are mean losses, recent and of the whole run; "age" is the time since
    the run last wrote its status.

    Example: uoro runs
    """
    show_runs(make_console(), folder)


def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="runs...", help="Folders of runs, or folders with runs below them"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="PNG to write", show_default="curve.png in the run's folder; runs.png for several"
        ),
    ] = None,
    monitors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Numbers to draw below the loss, a panel each, such as pair/norm,radius",
            show_default="none",
        ),
    ] = None,
) -> None:
    """Draw the loss of one or several training runs, also of runs at work.

    The recent loss is a line, the loss of each line of metrics is pale behind it, a known entropy
    rate is dashed, and events such as skipped steps are marked.

    Example: uoro plot results/first results/second --monitors pair/norm --out both.png
    """
    plot_runs(make_console(), runs, out, monitors=monitors or [])


def show_runs(console: Console, folder: Path) -> None:
    """Print one row for each run in a folder or below it.

    Raises:
        CheckpointError: If there is no such folder.
    """
    entries = list_runs(folder)
    if not entries:
        console.print(f"No run in {folder}.", markup=False, highlight=False)
        return
    table = Table(
        title=f"Runs in {escape(str(folder))}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    table.add_column("name", overflow="fold")
    table.add_column("state")
    for heading in ("steps", "recent", "cumulated", "age"):
        table.add_column(heading, justify="right")
    now = datetime.now(UTC)
    for entry in entries:
        table.add_row(
            escape(entry.name),
            f"[{COLOURS.get(entry.state, 'default')}]{escape(entry.state)}[/]",
            _steps(entry.status),
            _loss(entry.status.get("recent")),
            _loss(entry.status.get("cumulated")),
            _age(entry.status.get("updated"), now),
        )
    console.print(table)
    for entry in entries:
        reason = entry.status.get("reason")
        if reason and entry.state in ("failed", "unreadable", "stopped"):
            console.print(f"{entry.name}: {reason}", markup=False, highlight=False)


def plot_runs(
    console: Console,
    runs: Sequence[Path],
    out: Path | None = None,
    *,
    monitors: Sequence[str] = (),
) -> Path:
    """Draw the curves of runs and print the path of the figure.

    Args:
        console: Console to print on.
        runs: Folders of runs, or folders with runs below them.
        out: PNG to write. Default: ``curve.png`` in the folder of the only run, or ``runs.png``.
        monitors: Names of numbers to draw below the loss, separated by commas.

    Returns:
        Path of the figure.

    Raises:
        CheckpointError: If there is no such run, or the figure cannot be written.
        UnknownNameError: If no run has a monitor of that name.
    """
    folders = [run for folder in runs for run in _expand(folder)]
    if not folders:
        raise SettingError(
            "plot: expected a run that has written metrics, got none. Give the folder of one."
        )
    if out is None:
        out = folders[0] / "curve.png" if len(folders) == 1 else Path("runs.png")
    if out.suffix != ".png":
        raise SettingError(f"plot --out: expected the name of a PNG, got {out}. Try runs.png.")
    try:
        draw_runs(out, folders, monitors=[name for text in monitors for name in words(text)])
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"plot --out {out}: it cannot be written: {error.strerror or error}. Give another path."
        ) from error
    console.print(f"Written: {out}", markup=False, highlight=False)
    return out


def _expand(folder: Path) -> list[Path]:
    if (folder / METRICS).exists():
        return [folder]
    return [entry.path for entry in list_runs(folder) if _has_metrics(entry)]


def _has_metrics(entry: RunEntry) -> bool:
    return (entry.path / METRICS).exists()


def _steps(status: dict[str, Any]) -> str:
    step, wanted = status.get("step"), status.get("steps_wanted")
    if not isinstance(step, int):
        return "-"
    return f"{step:,} of {wanted:,}" if isinstance(wanted, int) and wanted != step else f"{step:,}"


def _loss(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "-"


def _age(updated: Any, now: datetime) -> str:
    """Return the time since a run wrote its status."""
    try:
        then = datetime.fromisoformat(updated)
    except (TypeError, ValueError):
        return "-"
    seconds = (now - (then if then.tzinfo else then.astimezone())).total_seconds()
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{math.floor(seconds / unit)} {name}"
    return f"{max(0, math.floor(seconds))} s"
