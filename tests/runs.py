"""Runs of ``uoro train`` within the tests' own process, and what comes of them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from uoro.checkpoint import Checkpoints
from uoro.cli import app as app_module
from uoro.training import Run, Settings, read_metrics, read_status
from uoro.training.session import Ended
from uoro.training.settings import merged

TIMINGS = ("seconds", "throughput", "resident")
TINY: dict[str, Any] = {
    "task": "anbn",
    "backend": "autograd",
    "estimator": "uoro",
    "network": {"cell": "rnn", "units": 3},
    "steps": 40,
    "chunk": 10,
    "checkpoints": {"every": 10},
    "metrics": {"every": 7, "recent": 20},
}


class Done(NamedTuple):
    """How a command ended."""

    status: int
    output: str
    errors: str


def command(*arguments: str | Path) -> Done:
    """Run ``uoro`` as if it had been typed, in this process."""
    output, errors = io.StringIO(), io.StringIO()
    status = 0
    with (
        patch.object(sys, "argv", ["uoro", *map(str, arguments)]),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            app_module.run()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return Done(status, output.getvalue(), errors.getvalue())


def settings(**over: Any) -> Settings:
    """Make the settings of a tiny run."""
    return Settings.of(merged(TINY, over))


def begin(folder: Path, *, stop_at: int | None = None, **over: Any) -> Ended:
    """Begin a tiny run; ask it to stop after so many steps."""
    return _go(Run(settings(**over), folder), stop_at)


def go_on(folder: Path, *, force: bool = False, stop_at: int | None = None, **over: Any) -> Ended:
    """Go on with a tiny run, with these settings if there are any."""
    chosen = settings(**over) if over else None
    return _go(Run(chosen, folder, resume=True, force=force), stop_at)


def _go(run: Run, stop_at: int | None) -> Ended:
    steps = 0

    def watch(live: Any) -> None:
        nonlocal steps
        steps = live.step

    asked: Callable[[], bool] = lambda: stop_at is not None and steps >= stop_at  # noqa: E731
    return run.go(asked_to_stop=asked, watch=watch)


def outcome(folder: Path) -> dict[str, Any]:
    """Read what a run came to, without its timings."""
    found = Checkpoints(folder / "checkpoints").latest()
    assert found is not None
    assert not found.damaged
    lines = read_metrics(folder / "metrics.jsonl")
    return {
        "arrays": found.snapshot.arrays,
        "document": found.snapshot.document,
        "metrics": [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines],
        "status": read_status(folder),
    }


def require_same(one: Path, two: Path, *, metrics: bool = True) -> None:
    """Compare the arrays, counts and metrics that two runs came to, bit for bit."""
    first, second = outcome(one), outcome(two)
    for part in ("learner", "stream", "meter", "alphabet"):
        assert first["document"][part] == second["document"][part], part
    assert first["arrays"].keys() == second["arrays"].keys()
    for path, array in second["arrays"].items():
        np.testing.assert_array_equal(first["arrays"][path], array, path, strict=True)
    if metrics:
        assert first["metrics"] == second["metrics"]
