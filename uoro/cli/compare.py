"""``uoro compare``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from uoro.backend import Backend
from uoro.cli.backends import installed_backends
from uoro.cli.building import build_task
from uoro.cli.compared import shown
from uoro.cli.flags import FLAGS
from uoro.cli.help import console as make_console
from uoro.cli.help import old_flag, renamed_flag, words
from uoro.cli.interrupt import deferred_interrupt
from uoro.cli.tables import remarks, table_of
from uoro.errors import MissingFrameworkError
from uoro.files.folder import require_folder
from uoro.lab.compare import (
    Choice,
    Compared,
    Comparison,
    draw,
    parse_estimator,
    resolve,
    split_estimators,
    write_json,
)
from uoro.lab.compare import compare as run_cells
from uoro.registry import load_backend
from uoro.tasks import TASKS, Task


def compare(
    task: Annotated[str, typer.Argument(help=", ".join(TASKS))],
    backends: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Backends, separated by commas; the first is the reference",
            show_default="all installed",
        ),
    ] = None,
    estimators: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Estimators, separated by commas: uoro, uoro:rank=4, uoro:memory=16, rtrl, "
            "tbptt:10, tbptt:10,rolling, bptt, kron:2, joint:4, block, snap",
            show_default="by the task",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Items of the stream")] = 20000,
    eager_steps: Annotated[
        int | None,
        typer.Option(
            help="Items on a backend that does not compile",
            show_default="a tenth beside a compiled one, at least 1000",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of initial parameters and signs")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float64")] = "float64",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the JSON and the PNG", show_default="results/TASK"),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Initial learning rate", show_default="the paper's")
    ] = None,
    units: Annotated[
        int | None,
        typer.Option(help="Units of a layer", show_default="64; 23 of influence-balancing"),
    ] = None,
    minus: Annotated[
        int | None,
        typer.Option(help="influence-balancing: units with a minus sign", show_default="13 of 23"),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="text, table: file to read; may be repeated",
            show_default="Shakespeare's plays",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAMES", help=FLAGS["options.target"].help)
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(help=FLAGS["options.horizon"].help, show_default="1")
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(metavar="NAMES", help=FLAGS["options.inputs"].help)
    ] = None,
    drop: Annotated[
        str | None, typer.Option(metavar="NAMES", help=FLAGS["options.drop"].help)
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="NAME", help=FLAGS["options.time"].help)
    ] = None,
    laps: Annotated[
        int | None, typer.Option(help=FLAGS["options.laps"].help, show_default="no end; once")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="text: utf-8 or bytes", show_default="utf-8")
    ] = None,
    malformed: Annotated[
        str | None, typer.Option(help=FLAGS["options.malformed"].help, show_default="stop")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Cell of a layer: rnn, gru, lstm, lru, rtu, mingru or elstm", show_default="gru"
        ),
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Number of layers", show_default="1")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device, such as cpu or cuda", show_default="the framework's"),
    ] = None,
    rate: Annotated[float | None, old_flag("--rate")] = None,
) -> None:
    """Run one task on several backends and estimators, with the same numbers, stream and signs.

    Prints a table and writes compare.json and compare.png; Ctrl-C keeps the runs that are done.
    "recent" is the mean loss over the last 1000 items, or the last tenth of a shorter run. A run
    "diverged" if its recent loss is above the first and near its worst, and is "undecided" if it is
    above the first and falling.

    Example: uoro compare influence-balancing --estimators uoro,rtrl,tbptt:10 --steps 100000

    Example: uoro compare text --file book.txt --model gru --units 64 --steps 20000

    Example: uoro compare readings.csv --target temperature --horizon 12
    """
    _, table, files = table_of(task, [str(path) for path in file or []])
    task = table or task
    options = {
        "learning_rate": renamed_flag("--rate", "--learning-rate", rate, learning_rate),
        "units": units,
        "minus": minus,
        "file": files or None,
        "target": target,
        "horizon": horizon,
        "inputs": inputs,
        "drop": drop,
        "time": time,
        "laps": laps,
        "encoding": encoding,
        "malformed": malformed,
        "model": model,
        "layers": layers,
    }
    run_comparison(
        make_console(),
        build_task(task, {name: value for name, value in options.items() if value is not None}),
        [name for text in backends or [] for name in words(text)],
        split_estimators(estimators or []),
        steps=steps,
        eager_steps=eager_steps,
        seed=seed,
        dtype=dtype,
        out=out or Path("results") / task,
        device=device,
    )


def run_comparison(
    console: Console,
    task: Task,
    backend_names: list[str],
    estimator_names: list[str],
    *,
    steps: int,
    eager_steps: int | None,
    seed: int,
    dtype: str,
    out: Path,
    device: str | None,
) -> None:
    """Run a comparison with live progress, print its table, write its files."""
    names = estimator_names or TASKS[task.name].estimators
    choices = [parse_estimator(name) for name in dict.fromkeys(names)]
    wanted = list(dict.fromkeys(backend_names)) or installed_backends()
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
    choices, chosen = resolve(task, backends[0], choices, seed, dtype)
    plan = replace(plan, choices=choices)
    console.print(f"[bold]{escape(task.title)}[/], seed {seed}, {dtype}, {steps:,} items")
    if chosen is not None:
        console.print(f"Estimator: {chosen.describe()}", markup=False, highlight=False)

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

            for cell in run_cells(plan, start):
                cells.append(cell)
                write_json(out / "compare.json", plan, cells, complete=False)
    except KeyboardInterrupt:
        interrupted = True

    if cells:
        console.print(shown(plan, cells))
        for line in remarks(cells):
            console.print(line, markup=False, highlight=False)
        write_json(out / "compare.json", plan, cells, complete=not interrupted)
        draw(out / "compare.png", plan, cells)
        written = f"Written: {out / 'compare.json'}, {out / 'compare.png'}"
        console.print(written, markup=False, highlight=False)
    if interrupted:
        total = len(backends) * len(choices)
        console.print(
            f"[yellow]Interrupted[/] in run {max(1, len(cells))} of {total}; "
            + ("the finished runs are written." if cells else "no run is finished.")
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
