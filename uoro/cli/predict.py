"""``uoro predict``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from uoro.cli.help import FLAG
from uoro.errors import SettingError
from uoro.training.predicting import Predictor

EPOCH = datetime(1970, 1, 1)


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run of a table")],
    file: Annotated[
        list[str],
        typer.Option(
            metavar="PATH", help="Table to read, or - for standard input; may be repeated"
        ),
    ],
    learn: Annotated[
        bool, typer.Option("--learn", metavar=FLAG, help="Learn on from each row, as in the run")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="CSV to write", show_default="standard output")
    ] = None,
) -> None:
    """Predict the columns of another table with the newest checkpoint of a run, as CSV.

    Each row has the value of each target and its prediction, made as many rows before as the run's
    horizon; the first rows have none. Below the last row of the table are the rows to come. The
    table is read as the next part of the series: statistics and hidden state go on from where the
    run was. The run itself is left as it is, with --learn too.

    Example: uoro predict runs/readings-1 --file may.csv --out predicted.csv
    """
    predictor = Predictor(run, file)
    with _opened(out) as to:
        writer = csv.writer(to, lineterminator="\n")
        heads = [name for target in predictor.targets for name in (target, f"{target} predicted")]
        writer.writerow(["row", *([] if predictor.time is None else [predictor.time]), *heads])
        row = 0
        for part in predictor.learn() if learn else predictor.predict():
            both = zip(part.times, part.values, part.predicted, strict=True)
            for time, values, predicted in both:
                row += 1
                cells = [cell for pair in zip(values, predicted, strict=True) for cell in pair]
                when = [] if predictor.time is None else [_time(time, dates=predictor.dates)]
                writer.writerow([row, *when, *map(_number, cells)])
            to.flush()


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise SettingError(
            f"predict --out {out}: it cannot be written: {error.strerror or error}. Try another."
        ) from error


def _number(value: Any) -> str:
    return "" if value != value else f"{value:.9g}"


def _time(seconds: Any, *, dates: bool) -> str:
    """Return a time as it was read, dates to the second or as fine as they are."""
    if seconds != seconds:
        return ""
    if not dates:
        return f"{seconds:.15g}"
    moment = EPOCH + timedelta(seconds=round(float(seconds), 6))
    return moment.isoformat(sep=" ")
