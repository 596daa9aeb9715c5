"""The progress of ``uoro train``, live and at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from uoro.cli.flags import in_flags
from uoro.training.logfile import LOG
from uoro.training.record import FIGURE, FORECAST, Live
from uoro.training.run import Run
from uoro.training.session import Ended


@contextmanager
def watching(console: Console, steps: int | None) -> Iterator[Callable[[Live], None]]:
    """Show a bar.

    Args:
        console: Console to show it on.
        steps: Number of steps of the run, if it has an end.

    Yields:
        Function that shows a state of the run.
    """
    columns = (
        BarColumn(),
        TextColumn("{task.fields[steps]}"),
        _Throughput(),
        _Losses(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=steps, live=None, steps="")
        total = "" if steps is None else f" of {steps:,}"

        def watch(live: Live) -> None:
            progress.update(bar, completed=live.step, live=live, steps=f"{live.step:,}{total}")

        yield watch


def show_end(console: Console, run: Run, ended: Ended) -> None:
    """Print how a run ended, where its files are, and how to resume it."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    colour = {"done": "green", "failed": "red"}.get(ended.state, "yellow")
    console.print(f"[{colour}]{ended.state}[/]", end=": ")
    line(in_flags(ended.reason))
    if ended.step:
        spent = ", ".join(f"{name} {part:.1%}" for name, part in ended.overhead.items() if part)
        line(
            f"{ended.step:,} steps; recent {run.loss_name} {ended.recent:.4g}, of the whole run "
            f"{ended.cumulated:.4g}. Overhead: {spent or 'none'}."
        )
        for remark in ended.remarks:
            line(remark)
    files = [name for name in (FIGURE, FORECAST, LOG) if (run.folder / name).exists()]
    line(f"Written: {run.folder} ({', '.join(files)}, …)")
    if ended.state != "done":
        line(f"To resume: uoro train --resume {run.folder}")


class _Throughput(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        live: Live | None = task.fields["live"]
        throughput = math.nan if live is None else live.throughput
        return Text("" if math.isnan(throughput) else f"{throughput:,.0f}/s")


class _Losses(ProgressColumn):
    """Recent loss and that of the whole run, or the seconds without input."""

    def render(self, task: Task) -> Text:
        live: Live | None = task.fields["live"]
        if live is None:
            return Text("starting")
        if live.waiting > 1.0:
            return Text(f"waiting for input, {live.waiting:.0f} s", style="yellow")
        return Text(f"recent {live.recent:.4g}, all {live.cumulated:.4g}")
