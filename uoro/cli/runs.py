"""``uoro runs`` and ``uoro plot``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

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


def show_runs(console: Console, folder: Path) -> None:
    """Print one row a run that is in a folder or below it.

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
    """Draw the curves of runs and say where the figure is.

    Args:
        console: Where to say it.
        runs: Folders of runs, or folders with runs below them, of which all are drawn.
        out: The PNG. Without it, ``curve.png`` in the folder of the only run, or ``runs.png``.
        monitors: What to draw below; several in one text are separated by commas.

    Returns:
        Where the figure is.

    Raises:
        CheckpointError: If there is no such run, or the figure cannot be written.
        UnknownNameError: If no run has a monitor of that name.
    """
    folders = [run for folder in runs for run in _expand(folder)]
    if not folders:
        raise SettingError(
            "plot: there is no run that has written metrics. Give the folder of one."
        )
    if out is None:
        out = folders[0] / "curve.png" if len(folders) == 1 else Path("runs.png")
    if out.suffix != ".png":
        raise SettingError(f"plot --out {out}: wanted is the name of a PNG, such as runs.png.")
    wanted = [name.strip() for text in monitors for name in text.split(",") if name.strip()]
    try:
        draw_runs(out, folders, monitors=wanted)
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
    """Say how long ago a run wrote its status."""
    try:
        then = datetime.fromisoformat(updated)
    except (TypeError, ValueError):
        return "-"
    seconds = (now - (then if then.tzinfo else then.astimezone())).total_seconds()
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{math.floor(seconds / unit)} {name}"
    return f"{max(0, math.floor(seconds))} s"
