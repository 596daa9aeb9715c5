"""The rows of the table: what is timed, and against what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from uoro.errors import SettingError, UnknownNameError, spelled
from uoro.estimator import Estimator
from uoro.estimators import RTRL, UORO, JointUORO, Truncated
from uoro.estimators.spelling import NAMES, parse_estimator
from uoro.estimators.streams import Streams
from uoro.lab.bench.roofline import Work

ROWS = (
    "forward",
    "tbptt",
    "uoro",
    "uoro:rank=2",
    "uoro:rank=4",
    "uoro:rank=8",
    "tbptt:16",
    "uoro:memory=16",
    "rtrl",
    "tbptt@8",
    "uoro@8",
    "tbptt@64",
    "uoro@64",
)
"""Timed on every backend unless asked otherwise."""

RTRL_UNITS = 64
"""The most units for which exact RTRL is timed."""


@dataclass(frozen=True)
class Row:
    """One row that every backend can run.

    Attributes:
        name: As on the command line.
        work: What it has to do, for the roofline.
        estimator: ``None`` for the forward pass alone.
    """

    name: str
    work: Work
    estimator: Estimator | None


def parse_row(written: str) -> Row:
    """Read the name of a row: ``forward``, or an estimator, ``@B`` for B streams side by side.

    Estimators are named as for ``uoro compare``; ``tbptt`` alone is ``tbptt:1``.

    Raises:
        UnknownNameError: If there is no such row.
        SettingError: If an option is unknown, or the estimator is not one that can be timed so.

    Example:
        >>> parse_row("uoro:rank=4@8").work
        Work(kind='uoro', span=1, rank=4, streams=8)
    """
    call = f"row {spelled(written)}"
    if not isinstance(written, str):
        raise UnknownNameError(call, "row", written, ("forward", *NAMES))
    name, at, count = written.partition("@")
    if at and not (count.isdecimal() and int(count) > 0):
        raise SettingError(f"{call}: after '@' comes a count of streams >= 1, got '{count}'.")
    streams = int(count) if at else 1
    if name == "forward":
        if at:
            raise SettingError(f"{call}: the forward pass is timed on one stream. Leave '@' out.")
        return Row(written, Work("forward"), None)
    if name.partition(":")[0] not in NAMES:
        raise UnknownNameError(call, "row", name, ("forward", *NAMES))
    choice = parse_estimator("tbptt:1" if name == "tbptt" else name)
    estimator, span = choice.estimator, choice.span
    if span is None or not isinstance(estimator, (UORO, JointUORO, Truncated, RTRL)):
        raise SettingError(
            f"{call}: it has no step of constant cost to count. Wanted is 'forward', 'tbptt:T', "
            "'uoro' with rank=K or memory=T, or 'rtrl'."
        )
    wrapped: Estimator = Streams(estimator, streams) if at else estimator
    if isinstance(estimator, (UORO, JointUORO)):
        work = Work("uoro", span, estimator.rank, streams)
    else:
        work = Work("rtrl" if isinstance(estimator, RTRL) else "truncated", span, 1, streams)
    return Row(written, work, wrapped)


def base_of(work: Work, names: Collection[str]) -> str | None:
    """Name the truncated row that a row is held against: of as long a window, as many streams.

    One written by hand in plain framework code comes before the library's own.

    Args:
        work: What the row has to do.
        names: The rows there are.
    """
    length = "" if work.span == 1 else f":{work.span}"
    streams = "" if work.streams == 1 else f"@{work.streams}"
    wanted = f"tbptt{length}{streams}"
    return next((name for name in (f"plain-{wanted}", wanted) if name in names), None)
