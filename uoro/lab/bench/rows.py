"""The rows of the benchmark, and the base that each is compared with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from uoro.arguments import mismatch
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
"""Rows of every backend, by default."""

RTRL_UNITS = 64
"""Largest number of units for which exact RTRL is timed."""


@dataclass(frozen=True)
class Row:
    """One row that every backend can run.

    Attributes:
        name: Name, as on the command line.
        work: Work of a step, for the roofline.
        estimator: Estimator; ``None`` for the forward pass alone.
    """

    name: str
    work: Work
    estimator: Estimator | None


def parse_row(written: str) -> Row:
    """Build a row from its name: ``forward`` or an estimator, with ``@B`` for B streams.

    Estimators are spelled as for ``uoro compare``; ``tbptt`` alone is ``tbptt:1``.

    Raises:
        UnknownNameError: If the row is unknown.
        SettingError: If an option is unknown, or the estimator has no step of constant cost.

    Example:
        >>> parse_row("uoro:rank=4@8").work
        Work(kind='uoro', span=1, rank=4, streams=8)
    """
    call = f"row {spelled(written)}"
    if not isinstance(written, str):
        raise UnknownNameError(call, "row", written, ("forward", *NAMES))
    name, at, count = written.partition("@")
    if at and not (count.isdecimal() and int(count) > 0):
        raise SettingError(mismatch(call, "", "a count of streams >= 1 after '@'", repr(count)))
    streams = int(count) if at else 1
    if name == "forward":
        if at:
            raise SettingError(mismatch(call, "", "one stream for 'forward'", repr(at + count)))
        return Row(written, Work("forward"), None)
    if name.partition(":")[0] not in NAMES:
        raise UnknownNameError(call, "row", name, ("forward", *NAMES))
    choice = parse_estimator("tbptt:1" if name == "tbptt" else name)
    estimator, span = choice.estimator, choice.span
    if span is None or not isinstance(estimator, (UORO, JointUORO, Truncated, RTRL)):
        expected = "a step of constant cost: 'forward', 'tbptt:T', 'uoro', 'joint:K' or 'rtrl'"
        raise SettingError(mismatch(call, "", expected, repr(name)))
    wrapped: Estimator = Streams(estimator, streams) if at else estimator
    if isinstance(estimator, (UORO, JointUORO)):
        work = Work("uoro", span, estimator.rank, streams)
    else:
        work = Work("rtrl" if isinstance(estimator, RTRL) else "truncated", span, 1, streams)
    return Row(written, work, wrapped)


def base_of(work: Work, names: Collection[str]) -> str | None:
    """Return the truncated row of the same window and streams, to compare with; ``None`` if absent.

    A row written by hand in plain framework code is preferred to the library's own.

    Args:
        work: Work of the row.
        names: Names of all rows.
    """
    length = "" if work.span == 1 else f":{work.span}"
    streams = "" if work.streams == 1 else f"@{work.streams}"
    wanted = f"tbptt{length}{streams}"
    return next((name for name in (f"plain-{wanted}", wanted) if name in names), None)
