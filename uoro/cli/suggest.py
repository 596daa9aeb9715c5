"""``uoro suggest``: which estimator, by measurements on a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from uoro import suggest as measure
from uoro.arguments import require_choice
from uoro.cli.backends import installed_backends
from uoro.cli.building import build_task
from uoro.cli.check import made_by
from uoro.cli.help import FLAG
from uoro.cli.help import console as make_console
from uoro.errors import MissingFrameworkError, SettingError
from uoro.estimators.spelling import split_estimators
from uoro.files.folder import require_folder
from uoro.files.results import made_with, write_document
from uoro.learning import Adam
from uoro.registry import load_backend
from uoro.suggesting import Suggestion
from uoro.suggesting.suggestion import HEADINGS, cells
from uoro.tasks import TASKS

LEARN = 20_000
"""Items that a built-in network learns from first."""
NARROW = 110
"""Columns of a terminal from which on the quartiles are shown."""


def suggest(
    model_of: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="package.module:factory or file.py:factory, a function that returns dynamics, "
            f"params, state and items; or a task: {', '.join(TASKS)}",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A task's network: rnn, gru, lstm, lru, rtu, mingru or elstm", show_default="gru"
        ),
    ] = None,
    units: Annotated[
        int | None, typer.Option(help="Units of a layer of it", show_default="64")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Number of layers", show_default="1")] = None,
    learn: Annotated[
        int | None,
        typer.Option(
            help="Items to learn from before anything is measured",
            show_default=f"{LEARN} of a task, 0 of a model of your own",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Learning rate of that", show_default="the task's, or Adam with 0.001"),
    ] = None,
    estimators: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Estimators, separated by commas, as in uoro compare",
            show_default="all that fit",
        ),
    ] = None,
    trained: Annotated[
        bool,
        typer.Option(
            "--trained",
            metavar=FLAG,
            help="The network remembers as long as it is ever to: a small bias is no harm",
        ),
    ] = False,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Largest squared error, relative to the squared gradient", show_default="any"
        ),
    ] = None,
    step_time: Annotated[
        float | None, typer.Option(help="Longest time of a step, in µs", show_default="any")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Items to compare gradients on", show_default="320; 96 where nothing compiles"
        ),
    ] = None,
    replicas: Annotated[int, typer.Option(help="Runs of each estimator, at most")] = 8,
    seconds: Annotated[float, typer.Option(help="Seconds to measure for, roughly")] = 40.0,
    seed: Annotated[int, typer.Option(help="Seed of initial parameters and signs")] = 0,
    backend: Annotated[
        str | None, typer.Option(help="Backend of a task", show_default="jax, if installed")
    ] = None,
    dtype: Annotated[str, typer.Option(help="A task's numbers: float32 or float64")] = "float32",
    to: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="JSON file to write it all to")
    ] = None,
) -> None:
    """Recommend an estimator for a model: bias, noise, time and memory of all that fit.

    Gradients are compared with exact ones at fixed params. Bias and noise grow as a network learns
    to remember: measure a trained network, or let it learn first.

    Exit status: 0 one is recommended; 1 none meets the limits; 2 nothing can be measured as asked.

    Example: uoro suggest anbn --model gru --units 64

    Example: uoro suggest my_package.my_model:factory --learn 5000 --json suggestion.json
    """
    if to is not None:
        require_folder("suggest", to.parent, "--json")
    console = make_console()
    options: dict[str, Any] = {
        "seed": seed,
        "estimators": split_estimators(estimators) if estimators else None,
        "trained": trained,
        "noise": noise,
        "seconds": None if step_time is None else 1e-6 * step_time,
        "steps": steps,
        "replicas": replicas,
        "budget": seconds,
    }
    given = {"model": model, "units": units, "layers": layers}
    network: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if ":" in model_of:
        alone = {**network, **({} if backend is None else {"backend": backend})}
        if alone:
            raise SettingError(
                f"uoro suggest {model_of}: expected no option --{next(iter(alone))} beside a model "
                "of your own, as it belongs to a task. Leave it out."
            )
        _say(console, f"{model_of}, seed {seed}")
        point = made_by("uoro suggest", model_of)
        adam = Adam(learning_rate or 1e-3)
        found = _measured(console, point, learn=learn or 0, optimizer=adam, **options)
    else:
        if learning_rate is not None:
            network["learning_rate"] = learning_rate
        found = _of_task(console, model_of, network, backend, dtype, learn, options)
    _print(console, found)
    if to is not None:
        made = made_with(found.backend.partition(" ")[0])
        write_document(to, {"model": model_of, **network, **found.document(), "made_with": made})
        _say(console, f"Written: {to}")
    raise typer.Exit(0 if found.recommended else 1)


def _of_task(
    console: Console,
    name: str,
    network: dict[str, Any],
    backend: str | None,
    dtype: str,
    learn: int | None,
    options: dict[str, Any],
) -> Suggestion:
    """Measure the network of a task."""
    task = build_task(name, network, "suggest")
    require_choice(f"suggest {name}", "--dtype", dtype, ("float32", "float64"))
    installed = sorted(installed_backends(), key=lambda each: each != "jax")
    if not installed and backend is None:
        raise MissingFrameworkError(
            "suggest: no backend is installed. Try: pip install 'uoro[jax]'."
        )
    on = load_backend(backend or installed[0])
    seed = options["seed"]
    _say(console, f"{task.title}, {on.name} on {on.device}, seed {seed}, {dtype}")
    with on.precision(dtype):
        start = task.model.init(np.random.default_rng(seed))
        params, state = (on.from_host(tree, dtype=dtype) for tree in start)
        dynamics = task.dynamics(on)
        point = dynamics, params, state, task.stream(seed)
        items = LEARN if learn is None else learn
        return _measured(console, point, learn=items, optimizer=task.optimizer, **options)


def _measured(console: Console, point: tuple[Any, ...], **options: Any) -> Suggestion:
    """Measure, and show what is done now."""
    with console.status("the model") as status:
        return measure(*point, report=status.update, **options)


def _print(console: Console, found: Suggestion) -> None:
    wide = console.width >= NARROW
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    shown = [i for i, heading in enumerate(HEADINGS) if wide or heading != "quartiles"]
    for i in shown:
        table.add_column(HEADINGS[i], justify="left" if i < 2 else "right", overflow="fold")
    for row in found.rows:
        words = cells(row)
        chosen = found.recommended is not None and row.spelling == found.recommended.name
        table.add_row(*(words[i] for i in shown), style="bold" if chosen else None)
    console.print(table)
    for line in found.remarks():
        _say(console, line)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False)
