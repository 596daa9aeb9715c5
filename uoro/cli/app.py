"""The commands of ``uoro``, and the one way in which an error ends them."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from uoro.cli.backends import backends
from uoro.cli.bench import bench
from uoro.cli.check import check
from uoro.cli.compare import compare
from uoro.cli.export import export
from uoro.cli.flags import in_flags
from uoro.cli.help import FLAG, Command, Group
from uoro.cli.predict import predict
from uoro.cli.report import report
from uoro.cli.reproduce import reproduce
from uoro.cli.runs import plot, runs
from uoro.cli.sample import sample
from uoro.cli.suggest import suggest
from uoro.cli.train import train
from uoro.errors import UOROError
from uoro.learning.log import LOGGER

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    help="Unbiased online gradients for recurrent models, on any autodiff framework.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for command in (
    backends, compare, suggest, reproduce, report, bench, check, runs, plot, train, sample,
    predict, export,
):  # fmt: skip
    app.command(cls=Command)(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"uoro {version('uoro')}")
        raise typer.Exit


@app.callback()
def common(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            metavar=FLAG,
            help="Print the version",
        ),
    ] = False,
) -> None:
    """Read the options before a command."""


def run() -> None:
    """Run the command line; an error of the library is one line and exit status 2.

    Warnings in the library's log are lines of standard error.
    """
    handler = _Printing(logging.WARNING)
    LOGGER.addHandler(handler)
    try:
        app()
    except UOROError as error:
        _refuse(str(error))
    except MemoryError as error:
        _refuse(f"expected enough memory, got too little: {error or 'try something smaller'}.")
    finally:
        LOGGER.removeHandler(handler)


class _Printing(logging.Handler):
    """Print warnings; an error ends the command, which prints it."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            _print_line(f"warning: {record.getMessage()}")


def _refuse(message: str) -> NoReturn:
    _print_line(message)
    sys.exit(2)


def _print_line(message: str) -> None:
    """Print a message on one line, with the arguments of a task spelled as flags."""
    Console(stderr=True, soft_wrap=True, emoji=False).print(
        f"uoro: {' '.join(in_flags(message).split())}", markup=False, highlight=False
    )
