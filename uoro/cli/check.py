"""``uoro check``: the conformance suite on a user's own model."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from uoro.arguments import require_choice, require_count
from uoro.errors import MissingFrameworkError, SettingError
from uoro.training.factory import load_factory


def run_check(
    console: Console,
    spelling: str,
    *,
    steps: int,
    seed: int | None,
    vary_seed: bool,
    dtype: str | None,
    surrogate: bool,
    report: Path | None,
) -> None:
    """Check the model that a factory makes, print the report, and exit with its status."""
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
    number = choose_seed(seed, vary_seed)
    require_writable(report)
    dynamics, params, state, items = _made(spelling)
    backend = dynamics.backend
    with nullcontext() if dtype is None else backend.precision(dtype):
        if dtype is not None:
            params, state = (backend.from_host(tree, dtype=dtype) for tree in (params, state))
            items = (backend.from_host(item, dtype=dtype) for item in items)
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
                progress=lambda entry: status.update(f"{spelling}: {entry.id}"),
            )
    print_report(console, found)
    if report is not None:
        found.write_json(report)
        console.print(f"Written: {report}", markup=False, highlight=False)
    sys.exit(found.exit_status)


def _made(spelling: str) -> tuple[Any, Any, Any, Iterable[Any]]:
    """Call the factory and look at what it made."""
    made = load_factory("uoro check", spelling)()
    wanted = "a tuple (dynamics, params, state, items)"
    if not isinstance(made, tuple) or len(made) != 4:
        got = f"{len(made)} elements" if isinstance(made, tuple) else type(made).__name__
        raise SettingError(f"uoro check {spelling}: it returned {got}, wanted is {wanted}.")
    if not hasattr(made[0], "vjp"):
        raise SettingError(
            f"uoro check {spelling}: it returned {wanted} whose first element is a "
            f"{type(made[0]).__name__}. Make dynamics of a transition: "
            "load_backend(name).dynamics(transition)."
        )
    if not isinstance(made[3], Iterable):
        raise SettingError(
            f"uoro check {spelling}: the items are a {type(made[3]).__name__}, wanted is a "
            "sequence of them or an iterator."
        )
    return made
