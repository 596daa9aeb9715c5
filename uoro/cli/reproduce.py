"""``uoro reproduce``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uoro.arguments import require_count
from uoro.checkpoint.lock import run_lock
from uoro.cli.bars import progress_bars
from uoro.cli.help import console as make_console
from uoro.cli.interrupt import deferred_interrupt
from uoro.files.folder import require_folder
from uoro.lab.jobs import cores, execute
from uoro.lab.reproduce import Document, Experiment, ReproductionPlan, find
from uoro.lab.reproduce.kinds import KINDS
from uoro.registry import load_backend

COLOURS = {"holds": "green", "does not hold": "red"}


def reproduce(
    figures: Annotated[
        list[str],
        typer.Argument(
            help="fig1a, fig1b, fig1c, fig2a, fig2b, fig4, table1, sec3.4, rank-noise, "
            "rank-learning, or all",
        ),
    ],
    scale: Annotated[
        str, typer.Option(help="quick, some minutes; or paper, the paper's lengths and repetitions")
    ] = "quick",
    seeds: Annotated[
        int | None, typer.Option(help="Seeds of each learning run", show_default="by the scale")
    ] = None,
    backend: Annotated[str, typer.Option(help="Backend")] = "jax",
    device: Annotated[
        str | None,
        typer.Option(help="Device, such as cpu or cuda", show_default="the framework's"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results", show_default="results/reproduction/SCALE-BACKEND"
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at a time", show_default="one for each core")
    ] = None,
) -> None:
    """Reproduce the paper's figures and table, with a verdict on each of its claims.

    Writes a JSON file and a PNG for each figure. Ctrl-C keeps the runs that are done, and the same
    command resumes; with more seeds, it adds the missing ones.

    Example: uoro reproduce fig2a

    Example: uoro reproduce all --scale quick
    """
    plan = ReproductionPlan(scale=scale, backend=backend, device=device, seeds=seeds)
    place = out or Path("results", "reproduction", f"{scale}-{backend}")
    run_reproduction(make_console(), figures, plan, out=place, jobs=jobs)


def run_reproduction(
    console: Console, names: list[str], plan: ReproductionPlan, *, out: Path, jobs: int | None
) -> None:
    """Make the missing runs, write and print their results."""
    if jobs is not None:
        require_count(f"reproduce --jobs {jobs}", "jobs", jobs)
    backend = load_backend(plan.backend, device=plan.device)
    plan = replace(plan, eager=not backend.compiled)
    experiments = find(names)
    require_folder("reproduce", out)
    # An accelerator is shared by all processes, and each would take its memory.
    most = len(cores()) if "cpu" in backend.device.lower() else 1
    with run_lock(out):
        _reproduce(console, experiments, plan, out, jobs or most)


def _reproduce(
    console: Console, experiments: list[Experiment], plan: ReproductionPlan, out: Path, jobs: int
) -> None:
    documents = {
        one.name: Document(out / f"{one.name}.json", one, one.runs(plan)) for one in experiments
    }
    wanted = [((name, run.id), run) for name, doc in documents.items() for run in doc.missing]
    at_once = min(jobs, max(1, len(wanted)))
    held = sum(len(document.results) for document in documents.values())
    console.print(
        f"[bold]{', '.join(documents)}[/], {plan.scale} scale, {plan.backend}: {len(wanted)} runs "
        f"to make, {at_once} at a time" + (f"; {held} are there already" if held else "")
    )
    failures: dict[Any, Exception] = {}
    interrupted = False
    shown = set[str]()
    try:
        with (
            progress_bars(console, wanted, ": ".join) as progress,
            deferred_interrupt() as asked_to_stop,
        ):
            by_key = dict(wanted)
            for key, done in execute(
                wanted, at_once, kinds=KINDS, progress=progress, asked_to_stop=asked_to_stop
            ):
                progress(key, 1.0)
                if isinstance(done, Exception):
                    failures[key] = done
                    continue
                document = documents[key[0]]
                document.add(by_key[key], done)
                if not document.missing:
                    shown.add(key[0])
                    _show(console, document, out)
    except KeyboardInterrupt:
        interrupted = True
    for name, document in documents.items():
        if document.results and name not in shown:
            _show(console, document, out)
    for (name, id), error in failures.items():
        what = f"{name}: {id}: {type(error).__name__}: {error}"
        console.print(f"[red]failed[/]: {escape(what)}", highlight=False)
    if interrupted:
        left = sum(len(document.missing) for document in documents.values())
        console.print(f"[yellow]Interrupted[/] with {left} runs left; the same command resumes.")
        sys.exit(130)
    if failures:
        sys.exit(1)


def _show(console: Console, document: Document, out: Path) -> None:
    """Draw the figure, print the numbers and the claims."""
    experiment: Experiment = document.experiment
    results = document.results
    document.write()
    figure = out / f"{experiment.name}.png"
    experiment.draw(results, figure)
    rows = experiment.table(results)
    if rows:
        table = Table(title=escape(experiment.title), title_justify="left", box=box.SIMPLE_HEAD)
        for number, heading in enumerate(rows[0]):
            table.add_column(escape(heading), justify="right" if number else "left")
        for row in rows[1:]:
            table.add_row(*map(escape, row))
        console.print(table)
    for claim in document.claims:
        colour = COLOURS.get(claim.verdict, "yellow")
        console.print(
            f"[bold {colour}]{claim.verdict}[/]: {escape(claim.sentence)}", highlight=False
        )
        console.print(f"  {escape(claim.support)}", highlight=False)
    console.print(f"Written: {document.path}, {figure}\n", markup=False, highlight=False)
