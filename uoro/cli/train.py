"""``uoro train``."""

from __future__ import annotations

import logging
import math
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from uoro.cli.interrupt import deferred_signals
from uoro.errors import SettingError
from uoro.learning.log import LOGGER
from uoro.training.record import FIGURE, Live
from uoro.training.run import LOG, Ended, Run
from uoro.training.settings import SETTINGS, Settings, merged, read_settings

EXIT = {"done": 0, "failed": 1, "stopped": 3, "interrupted": 130}
TERMINATED = 143


def gather(
    config: Path | None, resume: Path | None, given: dict[str, Any], assignments: list[str]
) -> Settings | None:
    """Put settings together: those of the run or of a file, then flags, then ``--set``.

    Args:
        config: A TOML file.
        resume: The folder of a run that goes on.
        given: Settings by dotted names; those that are ``None`` were not given.
        assignments: ``key=value``, the value as TOML spells it, or text.

    Returns:
        The settings; ``None`` for those of the run that goes on, as they are.
    """
    table: dict[str, Any] = {}
    if resume is not None and (resume / SETTINGS).exists():
        table = read_settings(resume / SETTINGS)
    if config is not None:
        table = merged(table, read_settings(config))
    over = [(name, value) for name, value in given.items() if value is not None]
    over += [_assignment(text) for text in assignments]
    if resume is not None and config is None and not over:
        return None
    for name, value in over:
        nested = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        table = merged(table, nested)
    return Settings.of(table, call="train")


def split_monitors(written: list[str] | None) -> list[str] | None:
    """Split lists at their commas, leaving options with the monitor they belong to.

    >>> split_monitors(["pair,noise:replicas=4,every=10", "shadow"])
    ['pair', 'noise:replicas=4,every=10', 'shadow']
    """
    names: list[str] = []
    for word in (word.strip() for text in written or [] for word in text.split(",")):
        if "=" in word and ":" not in word and names:
            names[-1] += f",{word}"
        elif word:
            names.append(word)
    return names or None


def new_folder(task: str) -> Path:
    """Name a folder for a run that was given none: ``runs/TASK-1``, and so on."""
    stem = Path(task.rpartition(":")[0]).stem.replace(".", "-") if ":" in task else task
    number = 1
    while Path("runs", f"{stem}-{number}").exists():
        number += 1
    return Path("runs", f"{stem}-{number}")


def run_training(
    console: Console, settings: Settings | None, folder: Path, *, resume: bool, force: bool
) -> int:
    """Train with live progress.

    Returns:
        The exit status.
    """
    run = Run(settings, folder, resume=resume, force=force)
    console.print(f"{run.title}, {run.settings.estimator}, {run.settings.backend}", markup=False)
    with (
        _reported(console),
        deferred_signals(signal.SIGINT, signal.SIGTERM) as caught,
        _bar(console, run.settings.steps) as watch,
    ):
        ended = run.go(asked_to_stop=lambda: caught() is not None, watch=watch)
    _say(console, run, ended)
    if ended.state == "interrupted" and caught() == signal.SIGTERM:
        return TERMINATED
    return EXIT[ended.state]


def _say(console: Console, run: Run, ended: Ended) -> None:
    colour = {"done": "green", "failed": "red"}.get(ended.state, "yellow")
    console.print(f"[{colour}]{ended.state}[/]", end=": ")
    console.print(ended.reason, markup=False, highlight=False)
    if ended.step:
        spent = ", ".join(f"{name} {part:.1%}" for name, part in ended.overhead.items() if part)
        console.print(
            f"{ended.step:,} steps; recent {run.loss_name} {ended.recent:.4g}, of the whole run "
            f"{ended.cumulated:.4g}. Time spent on {spent or 'nothing else'}.",
            markup=False,
            highlight=False,
        )
    files = [name for name in (FIGURE, LOG) if (run.folder / name).exists()]
    console.print(f"Written: {run.folder} ({', '.join(files)}, …)", markup=False, highlight=False)
    if ended.state != "done":
        console.print(
            f"Go on with: uoro train --resume {run.folder}", markup=False, highlight=False
        )


@contextmanager
def _reported(console: Console) -> Iterator[None]:
    """Show what the library reports above the bar."""
    handler = RichHandler(console=console, show_path=False, level=logging.WARNING)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        learning_rate = (
            task.fields["live"].learning_rate if task.fields["live"] is not None else math.nan
        )
        return Text("" if math.isnan(learning_rate) else f"{learning_rate:,.0f}/s")


class _Losses(ProgressColumn):
    """The recent loss, that of the whole run, and how long it has been waiting."""

    def render(self, task: Task) -> Text:
        live: Live | None = task.fields["live"]
        if live is None:
            return Text("starting")
        if live.waiting > 1.0:
            return Text(f"waiting for input, {live.waiting:.0f} s", style="yellow")
        return Text(f"recent {live.recent:.4g}, all {live.cumulated:.4g}")


@contextmanager
def _bar(console: Console, steps: int | None) -> Iterator[Any]:
    with Progress(
        BarColumn(),
        TextColumn("{task.fields[steps]}"),
        _Rate(),
        _Losses(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        bar = progress.add_task("", total=steps, live=None, steps="")
        wanted = "" if steps is None else f" of {steps:,}"

        def watch(live: Live) -> None:
            progress.update(bar, completed=live.step, live=live, steps=f"{live.step:,}{wanted}")

        yield watch


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingError(f"train --set {text}: wanted is KEY=VALUE, such as options.k=2.")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
