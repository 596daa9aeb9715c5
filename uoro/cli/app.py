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
from uoro.cli.sample import run_sample
from uoro.cli.train import gather, new_folder, run_training, split_monitors
from uoro.errors import ReproductionError, SettingError, UOROError
from uoro.lab.reproduce import ReproductionPlan
from uoro.lab.reproduce import report as make_report

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
    learning_rate: Annotated[
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
        options=TaskOptions(learning_rate, units, minus, file, encoding, model, layers),
    )


@app.command()
def reproduce(
    figures: Annotated[
        list[str],
        typer.Argument(
            help="fig1a, fig1b, fig1c, fig2a, fig2b, fig4, table1, sec3.4, rank-noise, "
            "rank-learning, or all"
        ),
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
    plan = ReproductionPlan(scale=scale, backend=backend, device=device, seeds=seeds)
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
    take turns; ratios are formed turn by turn. "× roofline" is the multiple of the time that the
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
    ] = Path("runs"),
) -> None:
    """List training runs: how far each is, its loss, and whether it is really at work.

    "running" is one that a process is at work on; one that only says so was killed, and is called
    so. "recent" and "cumulated" are mean losses, of late and of the whole run; "age" is how long
    ago it last wrote how it stands.

    Example: uoro runs
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


@app.command()
def train(
    task: Annotated[
        str | None,
        typer.Argument(
            help="anbn, brackets, copy, influence-balancing, text, or package.module:factory, "
            "which returns dynamics, params, state and stream"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: runs/TASK-1, and so on")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a run to go on with, however it ended")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the settings have changed")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings; flags come before it")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates to make. Default: until the stream ends, or Ctrl-C")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Name. Default: jax")] = None,
    device: Annotated[str | None, typer.Option(help="Device, such as cpu or cuda")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64. Default: float32")] = None,
    estimator: Annotated[
        str | None,
        typer.Option(help="uoro, uoro:rank=4, uoro:memory=16, rtrl, tbptt:10, … Default: uoro"),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="adam, sgd, optax.NAME, torch.NAME, or package.module:function. Default: the "
            "task's"
        ),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Initial learning rate")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant, inverse or inverse_sqrt")] = None,
    decay: Annotated[float | None, typer.Option(help="Of the schedule")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn. Default: 0")] = None,
    model: Annotated[str | None, typer.Option(help="rnn, gru or lstm. Default: gru")] = None,
    units: Annotated[int | None, typer.Option(help="Units of a layer. Default: 64")] = None,
    layers: Annotated[int | None, typer.Option(help="Layers. Default: 1")] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            help="text: a file to read, may be repeated; - is standard input. Default: "
            "Shakespeare's plays"
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="text: utf-8 or bytes. Default: utf-8; of a pipe, bytes")
    ] = None,
    alphabet: Annotated[
        str | None, typer.Option(help="text: all the characters, or ascii, or bytes")
    ] = None,
    follow: Annotated[
        bool | None,
        typer.Option("--follow", help="text: wait for more at the end of the file, like tail -f"),
    ] = None,
    laps: Annotated[
        int | None, typer.Option(help="text: times to go through the files. Default: no end")
    ] = None,
    malformed: Annotated[
        str | None,
        typer.Option(help="text: what to do with what is not in the alphabet: stop, or skip it"),
    ] = None,
    stdin: Annotated[
        str | None,
        typer.Option(
            help="text, --resume: standard input restarts with the first byte of all, or continues "
            "behind the last that was read. Default: restarts"
        ),
    ] = None,
    stall: Annotated[
        float | None, typer.Option(help="End after so many seconds without input. Default: never")
    ] = None,
    on_nonfinite: Annotated[
        str | None,
        typer.Option(help="What to do where loss or gradient is not finite: stop, skip or reset"),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="own: the backend's generator; shared: the same draws on every backend. "
            "Default: own"
        ),
    ] = None,
    monitors: Annotated[
        list[str] | None,
        typer.Option(
            help="pair, radius, noise, noise:replicas=4, shadow, shadow:window=64, …; separated by "
            "commas. Default: none"
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints. Default: 100000")
    ] = None,
    keep: Annotated[int | None, typer.Option(help="Checkpoints to keep. Default: 3")] = None,
    log_every: Annotated[
        int | None, typer.Option(help="Steps between lines of metrics. Default: 1000")
    ] = None,
    tensorboard: Annotated[
        bool | None, typer.Option("--tensorboard", help="Write for TensorBoard too")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, as in options.k=2 or chunk=512; may be repeated"),
    ] = None,
) -> None:
    """Train online on a stream, for as long as you like; stop it and go on as if nothing had been.

    The folder of a run has its complete settings (config.toml), its metrics (metrics.jsonl), its
    last checkpoints, and in the end a figure (curve.png). However a run ended, --resume goes on
    from its last checkpoint, and comes to the very numbers that it would have come to undisturbed.

    Exit status: 0 the steps are done or the stream has ended, 1 the run failed (numbers that are
    not finite, a stream that cannot be read on, a last checkpoint that cannot be written),
    2 it cannot be run as given, 3 there was no input for --stall seconds, 130 Ctrl-C, 143 told to
    end. Of 1, 3, 130 and 143 a checkpoint is left to go on from, if there were any steps.

    Example: uoro train anbn --steps 1000000 --out runs/anbn

    Example: uoro train text --file book.txt --model lstm --estimator uoro:rank=4

    Example: tail -c +1 -f log | uoro train text --file -

    Example: uoro train --resume runs/anbn --steps 2000000
    """
    if resume is not None and out is not None:
        raise SettingError("train: --out and --resume are both given. A run stays in its folder.")
    paths = None if not file else [str(path) for path in file]
    if encoding is None and paths == ["-"] and alphabet is None and resume is None:
        encoding = "bytes"
    given = {
        "task": task,
        "steps": steps,
        "backend": backend,
        "device": device,
        "dtype": dtype,
        "estimator": estimator,
        "optimizer.name": optimizer,
        "optimizer.rate": learning_rate,
        "optimizer.schedule": schedule,
        "optimizer.decay": decay,
        "seed": seed,
        "network.cell": model,
        "network.units": units,
        "network.layers": layers,
        "options.paths": paths,
        "options.encoding": encoding,
        "options.alphabet": alphabet,
        "options.follow": follow,
        "options.laps": laps,
        "options.malformed": malformed,
        "options.resume": stdin,
        "stall": stall,
        "on_nonfinite": on_nonfinite,
        "noise": noise,
        "monitors": split_monitors(monitors),
        "checkpoints.every": checkpoint_every,
        "checkpoints.keep": keep,
        "metrics.every": log_every,
        "metrics.tensorboard": tensorboard,
    }
    settings = gather(config, resume, given, set_ or [])
    folder = resume or out or new_folder(settings.task if settings is not None else "run")
    sys.exit(run_training(_console(), settings, folder, resume=resume is not None, force=force))


@app.command("sample")
def sample_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run of a task of symbols")],
    length: Annotated[int, typer.Option(help="Symbols to draw")] = 500,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest, 1 what the model believes")
    ] = 1.0,
    prompt: Annotated[
        str | None, typer.Option(help="Text to go on from. Default: a new line")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws")] = 0,
) -> None:
    """Let the model of a run write, from its newest checkpoint.

    Example: uoro sample runs/text-1 --length 1000 --temperature 0.8 --prompt "ROMEO."
    """
    run_sample(_console(), run, length=length, temperature=temperature, prompt=prompt, seed=seed)


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
