"""``uoro check``: the conformance suite on a user's own model."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from uoro.arguments import require_choice, require_count
from uoro.cli.help import FLAG
from uoro.cli.help import console as make_console
from uoro.errors import MissingFrameworkError, SettingError
from uoro.estimators.chosen import choose, is_auto
from uoro.estimators.spelling import parse_estimator
from uoro.training.factory import load_factory
from uoro.training.peeking import peek


def check(
    factory: Annotated[
        str,
        typer.Argument(
            help="package.module:factory or file.py:factory, a function that returns dynamics, "
            "params, state and items"
        ),
    ],
    steps: Annotated[int, typer.Option(help="Number of items to use")] = 4,
    seed: Annotated[int | None, typer.Option(help="Seed of every draw", show_default="0")] = None,
    vary_seed: Annotated[
        bool, typer.Option("--vary-seed", metavar=FLAG, help="Draw a fresh seed")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32 or float64, to cast params, state and items to",
            show_default="as the factory returns them",
        ),
    ] = None,
    surrogate: Annotated[
        bool,
        typer.Option(
            "--surrogate", metavar=FLAG, help="The model's derivatives are surrogates on purpose"
        ),
    ] = False,
    estimator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The estimator to check on the model: uoro, uoro:rank=4, uoro:memory=4, joint:4, "
            "kron:2, rtrl, block, snap",
        ),
    ] = "uoro",
    report: Annotated[Path | None, typer.Option(help="JSON file to write the findings to")] = None,
) -> None:
    """Check a model of your own: its derivatives, and that an estimator on it is as it declares.

    Exit status: 0 every law holds; 1 a law is broken; 2 the model cannot be checked as asked; 3
    a law is undecided or unverifiable.

    Example: uoro check my_package.my_model:factory --dtype float64
    """
    run_check(
        make_console(),
        factory,
        steps=steps,
        seed=seed,
        vary_seed=vary_seed,
        dtype=dtype,
        surrogate=surrogate,
        estimator=estimator,
        report=report,
    )


def run_check(
    console: Console,
    spelling: str,
    *,
    steps: int,
    seed: int | None,
    vary_seed: bool,
    dtype: str | None,
    surrogate: bool,
    estimator: str,
    report: Path | None,
) -> None:
    """Check the model that a factory returns, print the report, and exit with its status."""
    try:
        from uoro_conformance.model import check_model
        from uoro_conformance.report import require_writable
        from uoro_conformance.running import choose_seed
        from uoro_conformance.table import print_report
    except ModuleNotFoundError as error:
        raise MissingFrameworkError(
            f"uoro check: the module '{error.name}' is not installed. "
            "Try: pip install 'uoro[conformance]'."
        ) from error
    require_count(f"uoro check --steps {steps}", "steps", steps)
    if dtype is not None:
        require_choice(f"uoro check --dtype {dtype}", "dtype", dtype, ("float32", "float64"))
    choice = parse_estimator(estimator)
    if choice.span is None or choice.span > steps:
        raise SettingError(
            f"uoro check --estimator {estimator} --steps {steps}: expected at least as many steps "
            f"as one update takes, got {choice.span or 'an update for a whole run'}. Try --steps "
            f"{2 * (choice.span or steps)}, or another estimator."
        )
    number = choose_seed(seed, vary_seed)
    require_writable(report)
    dynamics, params, state, items = made_by("uoro check", spelling)
    backend = dynamics.backend
    with nullcontext() if dtype is None else backend.precision(dtype):
        if dtype is not None:
            params, state = (backend.from_host(tree, dtype=dtype) for tree in (params, state))
            items = (backend.from_host(item, dtype=dtype) for item in items)
        checked = choice.estimator
        if is_auto(checked):
            first, items = peek(backend, items)
            chosen = choose(dynamics, params, state, backend.from_host(first))
            console.print(f"Estimator: {chosen.describe()}", markup=False, highlight=False)
            checked = chosen.estimator
        with console.status(spelling) as status:
            found = check_model(
                dynamics,
                params,
                state,
                items,
                name=spelling,
                steps=steps,
                seed=number,
                surrogate=surrogate,
                estimator=checked,
                span=choice.span,
                progress=lambda entry: status.update(f"{spelling}: {entry.id}"),
            )
    print_report(console, found)
    if report is not None:
        found.write_json(report)
        console.print(f"Written: {report}", markup=False, highlight=False)
    sys.exit(found.exit_status)


def made_by(command: str, spelling: str) -> tuple[Any, Any, Any, Iterable[Any]]:
    """Call a factory, and check what it returns.

    Args:
        command: Command to name in errors.
        spelling: ``package.module:name``, or ``path/to/file.py:name``.

    Raises:
        SettingError: If it does not return dynamics, params, state and items.
    """
    call = f"{command} {spelling}"
    made = load_factory(command, spelling)()
    if not isinstance(made, tuple) or len(made) != 4:
        got = f"{len(made)} elements" if isinstance(made, tuple) else f"a {type(made).__name__}"
        raise SettingError(
            f"{call}: expected a tuple (dynamics, params, state, items) from the factory, got "
            f"{got}."
        )
    if not hasattr(made[0], "vjp"):
        raise SettingError(
            f"{call}: expected dynamics as the first element, got a {type(made[0]).__name__}. Try "
            "load_backend(name).dynamics(transition)."
        )
    if not isinstance(made[3], Iterable):
        raise SettingError(
            f"{call}: expected an iterable of items as the last element, got a "
            f"{type(made[3]).__name__}."
        )
    return made
