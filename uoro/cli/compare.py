"""``uoro compare``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from uoro.arguments import require_count
from uoro.backend import Backend
from uoro.cli.backends import installed_backends
from uoro.cli.interrupt import deferred_interrupt
from uoro.errors import MissingFrameworkError, SettingError, UnknownNameError
from uoro.files.folder import require_folder
from uoro.lab.compare import (
    Choice,
    Compared,
    Comparison,
    compare,
    draw,
    parse_estimator,
    split_estimators,
    write_json,
)
from uoro.registry import load_backend
from uoro.tasks import (
    Network,
    Task,
    anbn,
    copying,
    distant_brackets,
    influence_balancing,
    text,
)

DEFAULT_ESTIMATORS = {
    "influence-balancing": ["uoro", "rtrl", "tbptt:200", "tbptt:100", "tbptt:10"],
    "text": ["uoro", "tbptt:1", "tbptt:16"],
    "anbn": ["uoro", "tbptt:1", "tbptt:16"],
    "brackets": ["uoro", "tbptt:4"],
    "copy": ["uoro", "tbptt:1", "tbptt:16"],
}
SYMBOL_TASKS: dict[str, Callable[..., Task]] = {
    "anbn": anbn,
    "brackets": distant_brackets,
    "copy": copying,
}
OWN_OPTIONS = {
    "influence-balancing": ("units", "minus"),
    "text": ("units", "file", "encoding", "model", "layers"),
} | dict.fromkeys(SYMBOL_TASKS, ("units", "model", "layers"))
COLOURS = {
    "converged": "green",
    "learning": "cyan",
    "flat": "yellow",
    "undecided": "yellow",
    "diverged": "red",
}


@dataclass(frozen=True)
class TaskOptions:
    """The options of the command that only some tasks read."""

    learning_rate: float | None
    units: int | None
    minus: int | None
    file: list[Path] | None
    encoding: str | None
    model: str | None
    layers: int | None


def make_task(name: str, options: TaskOptions) -> Task:
    """Make the task of that name.

    Raises:
        UnknownNameError: If there is none; the nearest is named.
        SettingError: If an option is not the task's, or out of its range.
    """
    if name not in DEFAULT_ESTIMATORS:
        raise UnknownNameError(f"compare {name!r}", "task", name, DEFAULT_ESTIMATORS)
    for option in ("units", "minus", "file", "encoding", "model", "layers"):
        if option not in OWN_OPTIONS[name] and getattr(options, option) is not None:
            raise SettingError(f"compare {name}: it has no option --{option}.")
    learning_rate: dict[str, Any] = (
        {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    )
    if name == "influence-balancing":
        units = 23 if options.units is None else options.units
        # In the paper's proportion, if only the size was asked for.
        minus = (13 * units + 11) // 23 if options.minus is None else options.minus
        return influence_balancing(units=units, minus=minus, **learning_rate)
    for option in ("units", "layers"):
        if (count := getattr(options, option)) is not None:
            require_count(f"compare {name} --{option} {count}", option, count)
    network = Network(
        options.model or "gru",
        64 if options.units is None else options.units,
        1 if options.layers is None else options.layers,
    )
    if name in SYMBOL_TASKS:
        return SYMBOL_TASKS[name](network=network, **learning_rate)
    encoding = options.encoding or "utf-8"
    if encoding not in ("utf-8", "bytes"):
        raise SettingError(f"compare text: --encoding {encoding}: wanted is 'utf-8' or 'bytes'.")
    return text(
        options.file or (),
        encoding=encoding,  # type: ignore[arg-type]  # checked above
        network=network,
        **learning_rate,
    )


def run_comparison(
    console: Console,
    task_name: str,
    backend_names: list[str],
    estimator_names: list[str],
    *,
    steps: int,
    eager_steps: int | None,
    seed: int,
    dtype: str,
    out: Path,
    device: str | None,
    options: TaskOptions,
) -> None:
    """Run a comparison with live progress, print its table, write its files."""
    task = make_task(task_name, options)
    names = split_estimators(estimator_names) or DEFAULT_ESTIMATORS[task_name]
    choices = [parse_estimator(name) for name in dict.fromkeys(names)]
    wanted = [name.strip() for text in backend_names for name in text.split(",") if name.strip()]
    wanted = list(dict.fromkeys(wanted)) or installed_backends()
    backends = [load_backend(name, device=device) for name in wanted]
    if not backends:
        raise MissingFrameworkError(
            "compare: no backend is installed. Try: pip install 'uoro[jax]'."
        )
    if eager_steps is None:
        mixed = any(backend.compiled for backend in backends)
        longest = max(choice.span or 1 for choice in choices)
        eager_steps = min(steps, max(1000, steps // 10, longest)) if mixed else steps
    require_folder("compare", out)
    plan = Comparison(task, backends, choices, steps, eager_steps, seed, dtype)
    console.print(f"[bold]{escape(task.title)}[/], seed {seed}, {dtype}, {steps:,} items")

    cells: list[Compared] = []
    interrupted = False
    try:
        with _progress(console) as progress, deferred_interrupt() as asked_to_stop:

            def start(backend: Backend, choice: Choice, items: int) -> Any:
                bar = progress.add_task(f"{backend.name:>8} {choice.name}", total=items, loss="")

                def update(done: int, loss: float) -> None:
                    progress.update(bar, completed=done, loss=f"loss {loss:.3g}")
                    if asked_to_stop():
                        raise KeyboardInterrupt

                return update

            for cell in compare(plan, start):
                cells.append(cell)
                write_json(out / "compare.json", plan, cells, complete=False)
    except KeyboardInterrupt:
        interrupted = True

    if cells:
        console.print(_table(plan, cells))
        write_json(out / "compare.json", plan, cells, complete=not interrupted)
        draw(out / "compare.png", plan, cells)
        written = f"Written: {out / 'compare.json'}, {out / 'compare.png'}"
        console.print(written, markup=False, highlight=False)
    if interrupted:
        total = len(backends) * len(choices)
        console.print(
            f"[yellow]Interrupted[/] in run {max(1, len(cells))} of {total}; "
            + ("what was computed is written." if cells else "nothing was done yet.")
        )
        sys.exit(130)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=console,
    )


def _table(plan: Comparison, cells: list[Compared]) -> Table:
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
        learning_rate = "-" if cell.items_per_second is None else f"{cell.items_per_second:,.0f}"
        deviation = "-" if cell.deviation is None else f"{cell.deviation:.1e}"
        table.add_row(
            cell.backend,
            cell.estimator,
            f"{cell.items:,}{fewer}",
            f"{cell.recent_loss:.3g}",
            f"{cell.final_loss:.3g}",
            f"[{COLOURS[cell.verdict]}]{cell.verdict}[/]" + (f", {cell.note}" if cell.note else ""),
            learning_rate,
            "reference" if cell.backend == reference else deviation,
        )
    return table
