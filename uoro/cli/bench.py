"""``uoro bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uoro.arguments import require_choice
from uoro.checkpoint.lock import run_lock
from uoro.cli.bars import progress_bars
from uoro.cli.help import console as make_console
from uoro.cli.help import words
from uoro.cli.interrupt import deferred_interrupt
from uoro.errors import ReproductionError, SettingError
from uoro.estimators.spelling import split_estimators
from uoro.files.folder import require_folder
from uoro.lab.bench import SCALES, BenchDocument, BenchPlan, draw, facts, table
from uoro.lab.bench.group import require_rows, time_group
from uoro.lab.jobs import Done, cores, execute
from uoro.registry import load_backend

KINDS = {"speed": time_group}


def bench(
    backends: Annotated[str, typer.Option(help="Backends, separated by commas")] = "jax,torch",
    cells: Annotated[
        str | None,
        typer.Option(
            help="gru, lstm, rnn, lru, …, separated by commas", show_default="by the scale"
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(help="Numbers of units, separated by commas", show_default="by the scale"),
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Rows, separated by commas: forward, tbptt, tbptt:16, uoro, uoro:rank=4, "
            "uoro:memory=16, rtrl, uoro@8 (eight streams); on torch also plain-tbptt, "
            "plain-tbptt:16, plain-tbptt-fused, plain-tbptt-compiled, online, online-fused, "
            "uoro-compiled, uoro-compiled-to-eager",
            show_default="all",
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="quick, GRU with 64 and 256 units; or full, all cells, 16 to 2048")
    ] = "quick",
    repetitions: Annotated[int, typer.Option(help="Turns of each row")] = 11,
    seconds: Annotated[
        float | None, typer.Option(help="Seconds of a turn, about", show_default="by the scale")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads, and cores to pin them to")] = 1,
    alphabet: Annotated[int, typer.Option(help="Symbols of the stream")] = 3,
    dtype: Annotated[str, typer.Option(help="float32 or float64")] = "float32",
    device: Annotated[
        str | None,
        typer.Option(help="Device, such as cpu or cuda", show_default="the framework's"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the JSON and the PNGs")] = Path(
        "results", "bench"
    ),
) -> None:
    """Time a step: forward, truncated BPTT, UORO, rank k, memory T, exact RTRL, several streams.

    Each backend, cell and number of units has a process of its own, pinned to its cores. Its rows
    take turns, and ratios are formed turn by turn. "× roofline" is the time over the least time
    that the bytes and the arithmetic of a step take at this machine's throughput, measured in the
    same run. Compile time counts in "first call" only. "a step" is a character, of all streams
    together. Ctrl-C keeps the groups that are done, and the same command resumes.

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
    run_bench(make_console(), plan, out)


def make_plan(
    scale: str,
    *,
    backends: str,
    cells: str | None,
    units: str | None,
    rows: list[str],
    repetitions: int,
    seconds: float | None,
    threads: int,
    alphabet: int,
    dtype: str,
    device: str | None,
) -> BenchPlan:
    """Build the plan from the options of the command.

    Raises:
        SettingError: If an option is out of its range.
        UnknownNameError: If there is no such cell.
    """
    require_choice(f"bench --scale {scale}", "scale", scale, SCALES)
    chosen = SCALES[scale]
    if units is None:
        numbers = chosen.units
    else:
        given = words(units)
        if not all(word.isdecimal() and len(word) < 20 for word in given):
            raise SettingError(
                f"bench --units: expected integers >= 1, separated by commas, got {units}."
            )
        numbers = tuple(map(int, given))
    return BenchPlan(
        backends=tuple(words(backends)),
        cells=chosen.cells if cells is None else tuple(words(cells)),
        units=numbers,
        rows=tuple(split_estimators(rows)),
        repetitions=repetitions,
        seconds=chosen.seconds if seconds is None else seconds,
        threads=threads,
        alphabet=alphabet,
        dtype=dtype,
        device=device,
    )


def run_bench(console: Console, plan: BenchPlan, out: Path) -> None:
    """Time the missing groups, each in a process of its own; write and print them."""
    allowed = len(cores())
    if plan.threads > allowed:
        raise SettingError(
            f"bench --threads: expected at most {allowed}, the cores of this process, got "
            f"{plan.threads}."
        )
    for name in plan.backends:
        require_rows(load_backend(name, device=plan.device), plan.rows)
    require_folder("bench", out)
    with run_lock(out):
        _bench(console, plan, out)


def _bench(console: Console, plan: BenchPlan, out: Path) -> None:
    groups = plan.groups()
    document = BenchDocument(out / "bench.json", groups)
    wanted = [(group.id, group) for group in document.missing]
    held = len(groups) - len(wanted)
    console.print(
        f"{len(wanted)} groups to time" + (f"; {held} are there already" if held else ""),
        highlight=False,
    )
    for group in groups:
        if group.id in document.results:
            _show(console, group.id, document.results[group.id])
    failures: dict[str, Exception] = {}
    interrupted = False
    try:
        with (
            progress_bars(console, wanted, str) as progress,
            deferred_interrupt() as asked_to_stop,
        ):
            for key, group in wanted:
                # A pool for each group: a process that dies takes no other group along.
                try:
                    for _, done in execute(
                        [(key, group)],
                        1,
                        progress=progress,
                        asked_to_stop=asked_to_stop,
                        kinds=KINDS,
                        threads=plan.threads,
                    ):
                        progress(key, 1.0)
                        if isinstance(done, Exception):
                            failures[key] = done
                            continue
                        document.add(group, done)
                        _show(console, key, done)
                except ReproductionError as error:
                    failures[key] = error
    except KeyboardInterrupt:
        interrupted = True
    if document.results:
        written = [document.path, *draw(document.results, out)]
        console.print(f"Written: {', '.join(map(str, written))}", markup=False, highlight=False)
    for key, failure in failures.items():
        what = f"{key}: {type(failure).__name__}: {failure}"
        console.print(f"[red]failed[/]: {escape(what)}", highlight=False)
    if interrupted:
        console.print(
            f"[yellow]Interrupted[/] with {len(document.missing)} groups left; the same command "
            "resumes."
        )
        sys.exit(130)
    if failures:
        sys.exit(1)


def _show(console: Console, name: str, done: Done) -> None:
    rows = table(done)
    made = Table(title=escape(name), title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for heading in rows[0]:
        left = heading in ("row", "to")
        made.add_column(escape(heading), justify="left" if left else "right", no_wrap=True)
    for row in rows[1:]:
        made.add_row(*map(escape, row))
    console.print(made)
    for line in facts(done):
        console.print(line, markup=False, highlight=False)
    console.print()
