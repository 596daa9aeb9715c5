"""Prediction of columns of a table, some rows ahead: numbers as a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uoro.arguments import (
    require_choice,
    require_count,
    require_flag,
    require_kind,
    require_list,
    require_number,
    require_path,
)
from uoro.errors import SettingError, StreamError, spelled
from uoro.files.pipes import Resume
from uoro.learning.optimizers import Adam
from uoro.models import SeriesModel
from uoro.schedules import inverse_sqrt
from uoro.tables import Columns, Wanted, open_table
from uoro.tables.arrow import Matrix
from uoro.tables.columns import SECONDS
from uoro.tables.lines import Malformed
from uoro.tasks.forecast import Forecast
from uoro.tasks.running import Layout
from uoro.tasks.series import GrowingTable, TableStream
from uoro.tasks.symbols import Network
from uoro.tasks.task import Task

DAY = 86400.0
WEEK = 7.0 * DAY
SHOWN = 256
MOST_SHOWN = 2048
LONGEST = 100_000
"""Largest horizon: the inputs of so many rows are in memory, and in every checkpoint."""

Names = str | Sequence[str]


def table(
    paths: Sequence[str | Path] | str | Path = (),
    target: Names = (),
    horizon: int = 1,
    *,
    inputs: Names | None = None,
    drop: Names = (),
    time: str | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    cycles: Sequence[float] | None = None,
    columns: Any = None,
    malformed: Malformed = "stop",
    laps: int = 1,
    follow: bool = False,
    resume: Resume = "restarts",
    network: Network | None = None,
    learning_rate: float = 3e-4,
    decay: float = 3e-3,
) -> Task:
    """Return the task of predicting columns of a table some rows ahead, with Adam.

    The learning rate is ``γ/(1+α sqrt(t))``.

    The prediction is a change from the last known value, in units of the usual change over as many
    rows. So the loss of a prediction that is the last known value, *persistence*, is about 1.

    Args:
        paths: Files of CSV, TSV, Parquet or ``.npy``, or folders of them; ``"-"`` is standard
            input.
        target: Names of the columns to predict, in a list or separated by commas. Default: the
            only column of numbers.
        horizon: Number of rows ahead.
        inputs: Names of the columns to read beside the targets. Default: all that hold numbers or
            at most 32 different words.
        drop: Names of columns to leave out.
        time: Name of the column of times, dates or numbers. Default: the first that holds dates.
        categories: Values of columns that are categories, by name. Default: those of the first
            rows. Other values have one code together.
        cycles: Lengths in seconds of cycles; sine and cosine of each are inputs where the times are
            dates. Default: a day where rows are less than half a day apart, and a week where they
            are less than half a week apart.
        columns: What the columns hold, as the settings of the task tell. Default: what the first
            rows show.
        malformed: ``"stop"`` at a cell that cannot be read, a row of another length or a time that
            goes backwards, or ``"skip"`` and count them.
        laps: Number of passes over the files.
        follow: Whether to wait for more at the end of the file; requires a single file of text.
        resume: How standard input behaves when a run resumes: it ``"restarts"`` at its first byte,
            or ``"continues"`` after the last byte read.
        network: The network; default one GRU layer of 64 units.
        learning_rate: γ, the learning rate at t = 0.
        decay: α, the decay of the learning rate.

    Raises:
        StreamError: If a file cannot be read, or a column holds something else than it must.
        SettingError: If settings contradict each other, or a number is out of range.
        UnknownNameError: If there is no column of a name.
        MissingFrameworkError: If ``pyarrow`` is not installed.
    """
    given = [paths] if isinstance(paths, (str, Path)) else require_list("table", "paths", paths)
    files = [require_path("table(paths)", "path", path) for path in given]
    if not files:
        raise SettingError(
            "table(paths): expected the path of a table, got none. Give a file, a folder, or '-', "
            "which is standard input."
        )
    call = f"table({str(files[0])!r})" if len(files) == 1 else "table(paths)"
    for what, count in (("horizon", horizon), ("laps", laps)):
        require_count(f"{call}: {what}={spelled(count)}", what, count)
    if horizon > LONGEST:
        raise SettingError(f"{call}: horizon: expected at most {LONGEST:,} rows, got {horizon:,}.")
    require_choice(call, "malformed", malformed, ("stop", "skip"))
    require_choice(call, "resume", resume, ("restarts", "continues"))
    require_flag(call, "follow", follow)
    wanted = Wanted(
        _names(call, "target", target),
        None if inputs is None else _names(call, "inputs", inputs),
        _names(call, "drop", drop),
        time,
        {} if categories is None else dict(categories),
    )
    source = open_table(
        call,
        files,
        wanted,
        known=columns,
        malformed=malformed,
        laps=laps,
        follow=follow,
        resume=resume,
    )
    if source.whole and len(source.head) <= horizon:
        raise StreamError(
            f"{call}: expected more rows than the horizon, {horizon}, got {len(source.head)}. "
            "Predict fewer rows ahead, or give a longer table."
        )
    targets = wanted.targets or _only_target(source.columns)
    apart = _apart(source.columns, source.head)
    if cycles is None:
        cycles = [period for period in (DAY, WEEK) if 0.0 < apart < period / 2]
    layout = Layout(
        source.columns,
        tuple(source.columns.place(name) for name in targets),
        horizon,
        tuple(require_number(f"{call}: cycles", "cycle", c, "a number > 0") for c in cycles),
    )
    network = Network.given("table", network)
    ahead = f"{horizon} row{'s' if horizon > 1 else ''} ahead"
    kind = GrowingTable if source.grows else TableStream
    return Task(
        name="table",
        title=f"{', '.join(targets)} of {source.name}, {ahead}, {network.title}",
        model=SeriesModel(network.cells(), layout.width, len(targets)),
        stream=lambda seed: kind(source.rows(), layout, backwards=malformed),
        optimizer=Adam(inverse_sqrt(learning_rate, decay)),
        loss_name="squared error (usual change = 1)",
        loss_scale=1.0,
        solved_below=None,
        entropy_rate=None,
        settings={
            "files": [str(path) for path in files],
            "target": list(targets),
            "horizon": horizon,
            "inputs": None if wanted.inputs is None else list(wanted.inputs),
            "drop": list(wanted.drop),
            "time": time,
            "cycles": list(layout.cycles),
            "columns": source.columns.record(),
            "malformed": malformed,
            "laps": laps,
            "follow": follow,
            "learning_rate": learning_rate,
            "decay": decay,
            **network.settings,
        },
        forecast=Forecast(targets, horizon, _shown(apart), layout.width),
    )


def _names(call: str, what: str, given: Names) -> tuple[str, ...]:
    """Return names of columns, from a list or a text with commas."""
    if isinstance(given, str):
        return tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    names = require_list(f"{call}: {what}", what, given)
    for name in names:
        require_kind(f"{call}: {what}", "name of a column", name, str, "text")
    return tuple(dict.fromkeys(names))


def _only_target(columns: Columns) -> tuple[str, ...]:
    return tuple(columns.names[place] for place in columns.numbers[:1])


def _apart(columns: Columns, head: Matrix) -> float:
    """Return the median number of seconds between two rows; 0 if their times are no dates."""
    place = columns.time
    if place is None or columns.each[place].kind == SECONDS:
        return 0.0
    steps = np.diff(head[:, place])
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 0.0


def _shown(apart: float) -> int:
    """Return how many rows a figure shows: those of a day, within bounds."""
    return SHOWN if not apart else int(min(max(DAY / apart, SHOWN // 4), MOST_SHOWN))
