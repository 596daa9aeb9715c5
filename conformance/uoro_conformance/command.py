"""``python -m uoro_conformance``: run the suite on a registered backend."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperCommand

from uoro.errors import MissingFrameworkError, SettingError, UOROError
from uoro.registry import load_backend, registered_backends
from uoro_conformance.profiles import PROFILES, profile_named
from uoro_conformance.programs import compile_fast
from uoro_conformance.report import Entry, ExpectedFailures, Report, require_writable
from uoro_conformance.running import choose_cases, choose_seed, run_suite
from uoro_conformance.table import print_report


class _Command(TyperCommand):
    """A command whose flag ``--help`` shows no type."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option ``--help``."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.metavar, option.help = "", "Show this help."
        return option


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(cls=_Command)
def conformance(
    name: Annotated[
        str | None, typer.Argument(help="Registered backend, such as autograd, torch or jax.")
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", metavar="", help="Run on all registered backends; skip missing ones."
        ),
    ] = False,
    profile: Annotated[str, typer.Option(help=f"Amount of work: {', '.join(PROFILES)}.")] = "ci",
    seed: Annotated[
        int | None, typer.Option(help="Seed of every draw, an integer; default 0.")
    ] = None,
    vary_seed: Annotated[
        bool, typer.Option("--vary-seed", metavar="", help="Draw a fresh seed, and print it.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Pattern of law ids, such as '*/exact/*'; repeatable.")
    ] = None,
    xfails_file: Annotated[
        Path | None, typer.Option(help="File of laws expected to fail, one pattern per line.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="JSON file for the findings.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Device of the arrays, such as cpu or cuda.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--list", metavar="", help="Print the ids of the laws, and exit.")
    ] = False,
) -> None:
    """Check that a backend obeys every law, and that UORO on it is unbiased.

    Exit status: 0, all laws hold; 1, a law is broken; 2, the suite cannot be run;
    3, a law is undecided or unverifiable.

    Example: python -m uoro_conformance jax --profile ci --report jax.json
    """
    console = Console(width=None if sys.stdout.isatty() else 110, emoji=False)
    chosen = profile_named(profile)
    if show:
        for case in choose_cases(chosen, only or ()):
            console.print(case.id, markup=False, highlight=False)
        return
    if (name is None) == (not every):
        known = ", ".join(sorted(registered_backends()))
        raise SettingError(
            f"python -m uoro_conformance: expected one backend or --all. Registered: {known}."
        )
    number = choose_seed(seed, vary_seed)
    require_writable(report)
    expected = ExpectedFailures.read(xfails_file) if xfails_file else ExpectedFailures()
    statuses, documents = [], list[Report]()
    for backend_name in sorted(registered_backends()) if name is None else [name]:
        try:
            backend = load_backend(backend_name, device=device)
        except MissingFrameworkError as missing:
            if name is not None:
                raise
            console.print(
                f"[yellow]skipped[/] {backend_name}: {escape(str(missing))}", soft_wrap=True
            )
            continue
        compile_fast(backend, chosen)
        total = len(choose_cases(chosen, only or (), getattr(backend, "lacks", ())))
        with _progress() as progress:
            bar = progress.add_task(backend_name, total=total, now="")

            def advance(entry: Entry, bar: object = bar, progress: Progress = progress) -> None:
                progress.update(bar, advance=1, now=entry.id)  # type: ignore[arg-type]  # a task's id

            found = run_suite(
                backend,
                chosen,
                seed=number,
                only=only or (),
                expected=expected,
                progress=advance,
            )
        print_report(console, found)
        documents.append(found)
        statuses.append(found.exit_status)
        if report is not None:
            many = name is None
            path = report.with_stem(f"{report.stem}-{backend_name}") if many else report
            found.write_json(path)
            console.print(f"Written: {path}", markup=False, highlight=False)
    if not statuses:
        raise MissingFrameworkError(
            "python -m uoro_conformance --all: expected an installed framework, got none. "
            "Try: pip install 'uoro[all]'."
        )
    sys.exit(next((status for status in (1, 3) if status in statuses), 0))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
        console=Console(stderr=True),
        transient=True,
    )


def main() -> None:
    """Run the command; an error of the library is one line and exit status 2."""
    try:
        app()
    except UOROError as error:
        Console(stderr=True, soft_wrap=True, emoji=False).print(
            f"uoro_conformance: {error}", markup=False, highlight=False
        )
        sys.exit(2)
