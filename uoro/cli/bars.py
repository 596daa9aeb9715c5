"""Progress bars: one for all runs, and one for each run at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from uoro.lab.jobs import Job


@contextmanager
def progress_bars(
    console: Console, wanted: list[tuple[Any, Job]], spell: Callable[[Any], str]
) -> Iterator[Callable[[Any, float], None]]:
    """Show a bar for all runs, by their estimated cost, and one for each run at work.

    Args:
        console: Console to show them on.
        wanted: Runs, each under a key.
        spell: Function from a key to words.

    Yields:
        Function of a key and the fraction that is done.
    """
    runs = dict(wanted)
    done = dict.fromkeys(runs, 0.0)
    bars: dict[Any, TaskID] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        total = progress.add_task("everything", total=sum(run.cost for run in runs.values()) or 1)

        def update(key: Any, fraction: float) -> None:
            # Messages of a run may arrive after its result.
            fraction = done[key] = max(done[key], fraction)
            if key not in bars:
                bars[key] = progress.add_task(escape(spell(key)), total=1.0)
            progress.update(bars[key], completed=fraction, visible=fraction < 1.0)
            progress.update(total, completed=sum(runs[k].cost * part for k, part in done.items()))

        yield update
