"""``uoro bench``."""

from __future__ import annotations

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uoro.arguments import require_choice
from uoro.checkpoint.lock import run_lock
from uoro.cli.bars import progress_bars
from uoro.cli.interrupt import deferred_interrupt
from uoro.errors import ReproductionError, SettingError
from uoro.estimators.spelling import split_estimators
from uoro.files.folder import require_folder
from uoro.lab.bench import SCALES, BenchDocument, BenchPlan, draw, facts, table
from uoro.lab.bench.group import require_rows, time_group
from uoro.lab.jobs import Done, cores, execute
from uoro.registry import load_backend

KINDS = {"speed": time_group}


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
    """Read the options of the command.

    Raises:
        SettingError: If one is out of its range.
        UnknownNameError: If there is no such cell.
    """
    require_choice(f"bench --scale {scale}", "scale", scale, SCALES)
    chosen = SCALES[scale]
    if units is None:
        numbers = chosen.units
    else:
        words = _words(units)
        if not all(word.isdecimal() and len(word) < 20 for word in words):
            raise SettingError(
                f"bench --units {units}: wanted are integers >= 1, separated by commas."
            )
        numbers = tuple(map(int, words))
    return BenchPlan(
        backends=_words(backends),
        cells=chosen.cells if cells is None else _words(cells),
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
    """Time the groups that are missing, each in a process of its own; write and print them."""
    allowed = len(cores())
    if plan.threads > allowed:
        raise SettingError(
            f"bench --threads {plan.threads}: this process may use {allowed} cores. Take at most "
            "as many."
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
                # A pool for each: a process that dies takes no other group along.
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
            "goes on from there."
        )
        sys.exit(130)
    if failures:
        sys.exit(1)


def _words(written: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in written.split(",") if word.strip())


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
