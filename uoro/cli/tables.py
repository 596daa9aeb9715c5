"""Tables on the command line: a path in the place of a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uoro.lab.compare import Compared
from uoro.tables.source import is_table
from uoro.tasks import TASKS

STANDARD_INPUT = "-"


def table_of(task: str | None, files: Sequence[str]) -> tuple[str | None, str | None, list[str]]:
    """Recognize the path of a table in the place of a task.

    Args:
        task: What was given as the task.
        files: What was given by ``--file``.

    Returns:
        A name for the folder of a run, if it is a table; the task; and all files.
    """
    paths = list(files)
    named = task in TASKS or not task or ":" in task
    if task is not None and not named and (task == STANDARD_INPUT or is_table(Path(task))):
        paths.insert(0, task)
        stem = Path(task).name.partition(".")[0] or Path(task).resolve().name
        return (stem if task != STANDARD_INPUT else "table"), "table", paths
    return None, task, paths


def remarks(cells: Sequence[Compared]) -> list[str]:
    """Return lines on a comparison of predictions: beside persistence, and at the same time.

    Args:
        cells: Runs; of a task that predicts nothing ahead of time there are no lines.
    """
    cells = [cell for cell in cells if cell.persistence is not None]
    if not cells:
        return []
    # Runs on an eager backend take fewer rows, so that theirs are other ones.
    most = max(cells, key=lambda cell: cell.items)
    lines = [f"persistence, the last known value: recent {most.persistence:.3g}"]
    for name in most.errors:
        last = most.errors[name][1]
        each = [f"{c.errors[name][0]:.4g} ({c.estimator}, {c.backend})" for c in cells]
        lines.append(f"error of {name}: {', '.join(each)}; persistence {last:.4g}")
    for backend in dict.fromkeys(cell.backend for cell in cells):
        first, *others = [cell for cell in cells if cell.backend == backend]
        lines += [_at_the_same_time(first, other) for other in others if _timed(first, other)]
    return lines


def _timed(*cells: Compared) -> bool:
    return all(cell.items_per_second for cell in cells)


def _at_the_same_time(first: Compared, other: Compared) -> str:
    """Say how far a run is in the time that the first one took."""
    assert first.items_per_second
    assert other.items_per_second
    seconds = first.items / first.items_per_second
    said = f"{first.backend}, in the {seconds:.3g} s of {first.estimator}: {other.estimator}"
    reached = other.items_per_second * seconds
    if reached >= other.items:
        return f"{said} has taken all rows, in {other.items / other.items_per_second:.3g} s"
    losses = [point.loss for point in other.curve if point.item <= reached]
    loss = f", loss {losses[-1]:.3g} there" if losses else ""
    return f"{said} has taken {int(reached):,} of {other.items:,} rows{loss}"
