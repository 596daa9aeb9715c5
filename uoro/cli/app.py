"""The commands of ``uoro``."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from uoro.cli.backends import show_backends
from uoro.cli.bench import make_plan, run_bench
from uoro.cli.check import run_check
from uoro.cli.compare import TaskOptions, run_comparison
from uoro.cli.reproduce import run_reproduction
from uoro.cli.runs import plot_runs, show_runs
from uoro.errors import ReproductionError, UOROError
from uoro.reproduction import Plan
from uoro.reproduction import report as make_report

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Unbiased online gradients for recurrent models, on any autodiff framework.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"uoro {version('uoro')}")
        raise typer.Exit


@app.callback()
def common(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version"),
    ] = False,
) -> None:
    """Take the options that come before a command."""


@app.command()
def backends() -> None:
    """List what is registered: installed or not, version, device, and how to install it.

    Example: uoro backends
    """
    show_backends(_console())


@app.command()
def compare(
    task: Annotated[str, typer.Argument(help="influence-balancing, text, anbn, brackets or copy")],
    backends: Annotated[
        list[str] | None,
        typer.Option(
            help="Names, separated by commas; the first is the reference. Default: all "
            "that are installed"
        ),
    ] = None,
    estimators: Annotated[
        list[str] | None,
        typer.Option(
            help="uoro, uoro:rank=4, uoro:memory=16, rtrl, tbptt:10, tbptt:10,rolling, "
            "bptt; separated by commas. Default: what suits the task"
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Items of the stream")] = 20000,
    eager_steps: Annotated[
        int | None,
        typer.Option(
            help="The same for backends on which Python runs each step. Default: a tenth "
            "if a compiled backend takes part, at least 1000"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the initial numbers and the signs")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float64")] = "float64",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the JSON and the PNG. Default: results/TASK")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Initial learning rate. Default: the paper's for the task")
    ] = None,
    units: Annotated[
        int | None, typer.Option(help="Units. Default: 23 for influence-balancing, 64 elsewhere")
    ] = None,
    minus: Annotated[
        int | None,
        typer.Option(help="influence-balancing: units with a minus. Default: 13 of 23"),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(help="text: a file to read; may be repeated. Default: Shakespeare's plays"),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="text: utf-8 or bytes. Default: utf-8")
    ] = None,
    model: Annotated[str | None, typer.Option(help="rnn, gru or lstm. Default: gru")] = None,
    layers: Annotated[int | None, typer.Option(help="Layers. Default: 1")] = None,
    device: Annotated[
        str | None, typer.Option(help="Device for every backend, such as cpu or cuda")
    ] = None,
) -> None:
    """Run the same task, numbers, stream and signs on several backends and estimators.

    Prints a table and writes compare.json and compare.png. Ctrl-C keeps what is done. "recent" is
    the mean loss over the last 1000 items, or the last tenth of a shorter run; "diverged" means
    that it is above the first loss and near its worst, "undecided" that it is above and falling.

    Example: uoro compare influence-balancing --estimators uoro,rtrl,tbptt:10 --steps 100000

    Example: uoro compare text --file book.txt --model gru --units 64 --steps 20000
    """
    run_comparison(
        _console(),
        task,
        backends or [],
        estimators or [],
        steps=steps,
        eager_steps=eager_steps,
        seed=seed,
        dtype=dtype,
        out=out or Path("results") / task,
        device=device,
        options=TaskOptions(rate, units, minus, file, encoding, model, layers),
    )


@app.command()
def reproduce(
    figures: Annotated[
        list[str],
        typer.Argument(help="fig1a, fig1b, fig1c, fig2a, fig2b, fig4, table1, sec3.4, or all"),
    ],
    scale: Annotated[
        str, typer.Option(help="quick: minutes; paper: the paper's lengths and repetitions")
    ] = "quick",
    seeds: Annotated[
        int | None, typer.Option(help="Seeds of each learning run. Default: by the scale")
    ] = None,
    backend: Annotated[str, typer.Option(help="Name of the backend")] = "jax",
    device: Annotated[str | None, typer.Option(help="Device, such as cpu or cuda")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder. Default: results/reproduction/SCALE-BACKEND"),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at a time. Default: one for each core")
    ] = None,
) -> None:
    """Reproduce the paper's figures and table, with a verdict on each of its claims.

    Writes a JSON file and a PNG for each. Ctrl-C keeps every run that is done, and the same command
    goes on from there; asked for more seeds, it makes those that are missing.

    Example: uoro reproduce fig2a

    Example: uoro reproduce all --scale quick
    """
    plan = Plan(scale=scale, backend=backend, device=device, seeds=seeds)
    place = out or Path("results", "reproduction", f"{scale}-{backend}")
    run_reproduction(_console(), figures, plan, out=place, jobs=jobs)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that reproduce has filled")],
    write: Annotated[Path | None, typer.Option(help="Write the page there. Default: print")] = None,
) -> None:
    """Make the page of results from a folder of them: docs/reproduction.md is made this way.

    Example: uoro report docs/reproduction --write docs/reproduction.md
    """
    page = make_report(folder, write or Path("page.md"))
    if write is None:
        print(page, end="")
    else:
        try:
            write.write_text(page, encoding="utf-8")
        except OSError as error:
            raise ReproductionError(
                f"report --write {write}: it cannot be written: {error.strerror}."
            ) from error


@app.command()
def bench(
    backends: Annotated[str, typer.Option(help="Names, separated by commas")] = "jax,torch",
    cells: Annotated[
        str | None, typer.Option(help="gru, lstm, rnn, separated by commas. Default: by the scale")
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="Numbers, separated by commas. Default: by the scale")
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            help="forward, tbptt, tbptt:16, uoro, uoro:rank=4, uoro:memory=16, rtrl, uoro@8 (eight "
            "streams); torch also has plain-tbptt, plain-tbptt:16, plain-tbptt-fused, "
            "plain-tbptt-compiled, online, online-fused, uoro-compiled and "
            "uoro-compiled-to-eager; separated by commas. Default: all"
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="quick: gru, 64 and 256 units; full: all cells, 16 to 2048 units")
    ] = "quick",
    repetitions: Annotated[int, typer.Option(help="Turns that each row takes")] = 11,
    seconds: Annotated[
        float | None, typer.Option(help="How long a turn lasts, about. Default: by the scale")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads, and cores to be pinned to")] = 1,
    alphabet: Annotated[int, typer.Option(help="Symbols of the stream")] = 3,
    dtype: Annotated[str, typer.Option(help="float32 or float64")] = "float32",
    device: Annotated[
        str | None, typer.Option(help="Device for every backend, such as cpu or cuda")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the PNGs")] = Path(
        "results", "bench"
    ),
) -> None:
    """Time a step: forward, truncated BPTT, UORO, rank k, memory T, exact RTRL, several streams.

    Each backend, cell and number of units has a process of its own, pinned to its cores. Its rows
    take turns; ratios are formed turn by turn. "× floor" is the multiple of the time that the
    bytes and the arithmetic a step cannot avoid would take at this machine's rates, measured in
    the same run; compiling counts under "first call" alone. "a step" is a character, of all streams
    together. Ctrl-C keeps the groups that are done, and the same command goes on from there.

    Example: uoro bench --backends jax --cells gru --units 16,64,256 --rows forward,tbptt,uoro

    Example: uoro bench --scale full --seconds 0.5 --out results/bench
    """
    plan = make_plan(
        scale,
        backends=backends,
        cells=cells,
        units=units,
        rows=rows or [],
        repetitions=repetitions,
        seconds=seconds,
        threads=threads,
        alphabet=alphabet,
        dtype=dtype,
        device=device,
    )
    run_bench(_console(), plan, out)


@app.command()
def check(
    factory: Annotated[
        str,
        typer.Argument(
            help="package.module:factory or file.py:factory; the factory takes nothing and returns "
            "dynamics, params, state and items"
        ),
    ],
    steps: Annotated[int, typer.Option(help="How many of the items to take")] = 4,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn. Default: 0")] = None,
    vary_seed: Annotated[bool, typer.Option("--vary-seed", help="Take a fresh seed")] = False,
    dtype: Annotated[
        str | None,
        typer.Option(help="Cast params, state and items to float32 or float64. Default: as made"),
    ] = None,
    surrogate: Annotated[
        bool,
        typer.Option("--surrogate", help="Its derivatives are not those of forward on purpose"),
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the findings there, as JSON")] = None,
) -> None:
    """Check a model of your own: its derivatives, and that UORO on it is unbiased for exact RTRL.

    Exit status: 0 all holds, 1 a law is broken, 2 it cannot be checked as asked, 3 something is
    undecided or unverifiable.

    Example: uoro check my_package.my_model:factory --dtype float64
    """
    run_check(
        _console(),
        factory,
        steps=steps,
        seed=seed,
        vary_seed=vary_seed,
        dtype=dtype,
        surrogate=surrogate,
        report=report,
    )


@app.command()
def runs(
    folder: Annotated[
        Path, typer.Argument(help="Where to look for runs, also further down")
    ] = Path("results"),
) -> None:
    """List training runs: how far each is, its loss, and whether it is really at work.

    "running" is one that a process is at work on; one that only says so was killed, and is called
    so. "recent" and "cumulated" are mean losses, of late and of the whole run; "age" is how long
    ago it last wrote how it stands.

    Example: uoro runs results
    """
    show_runs(_console(), folder)


@app.command()
def plot(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, or folders with runs below them")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The PNG. Default: curve.png in the run's folder; runs.png for several"),
    ] = None,
    monitors: Annotated[
        list[str] | None,
        typer.Option(
            help="What to draw below the loss, a panel each, such as pair/norm,radius; "
            "separated by commas"
        ),
    ] = None,
) -> None:
    """Draw the loss of one or several training runs, which may be at work.

    The recent loss is a line, the loss between two lines of the log is pale behind it, the entropy
    rate is dashed where it is known, and steps that were skipped and the like are marked.

    Example: uoro plot results/first results/second --monitors pair/norm --out both.png
    """
    plot_runs(_console(), runs, out, monitors=monitors or [])


def _console() -> Console:
    """Make a console as wide as the terminal; wide enough for a table where there is none."""
    return Console(width=None if sys.stdout.isatty() else 130, emoji=False)


def run() -> None:
    """Run the command line; an error of the library is one line and exit status 2."""
    try:
        app()
    except UOROError as error:
        _refuse(str(error))
    except MemoryError as error:
        _refuse(f"there is not enough memory for that: {error or 'ask for something smaller'}.")


def _refuse(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True, emoji=False).print(
        f"uoro: {' '.join(message.split())}", markup=False, highlight=False
    )
    sys.exit(2)
