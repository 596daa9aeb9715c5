"""A first look at a table: which columns it has, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uoro.errors import SettingError, StreamError
from uoro.learning.log import LOGGER
from uoro.tables.arrow import arrow, numbers_of
from uoro.tables.columns import (
    BOOL,
    CATEGORY,
    DATE,
    NUMBER,
    SECONDS,
    UTC_DATE,
    Column,
    Columns,
    require_column,
)

HEAD_ROWS = 1000
MOST_VALUES = 32
"""Largest number of different values of a column of text that is a category."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the columns of a table.

    Attributes:
        targets: Columns to predict.
        inputs: Columns to read beside them; ``None`` for all that hold numbers or categories.
        drop: Columns to leave out.
        time: Column of times; ``None`` for the first that holds dates, if there is one.
        categories: Values of columns, which are then categories.
    """

    targets: tuple[str, ...]
    inputs: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    time: str | None = None
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def columns(self, call: str, head: Any) -> Columns:
        """Return the columns to use, from the first rows of a table.

        Args:
            call: Call to name in errors.
            head: Arrow table of the first rows, with the types that were found.

        Raises:
            UnknownNameError: If there is no column of a name.
            SettingError: If a column is wanted for contradicting purposes.
            StreamError: If a target, or the time, holds something else than it must.
        """
        header = list(head.column_names)
        targets = self.targets or _only_number(call, head)
        for what, names in (("target", targets), ("inputs", self.inputs or ()), ("drop", self.drop),
                            ("time", () if self.time is None else (self.time,)),
                            ("categories", tuple(self.categories))):  # fmt: skip
            for name in names:
                require_column(call, what, name, header)
        both = [n for n in targets if n in self.drop or n == self.time or n in self.categories]
        if both:
            raise SettingError(
                f"{call}: target {both[0]!r}: expected a column of numbers that is read, got it "
                "as drop, time or a category too. Leave it out there."
            )
        time = self._time(call, head)
        each = [] if time is None else [time]
        for name in header:
            if name in targets:
                each.append(_target(call, head, name))
            elif name in self.drop or (time is not None and name == time.name):
                continue
            elif self.inputs is None or name in self.inputs:
                column = self._input(call, head, name)
                each += [] if column is None else [column]
        return Columns(tuple(each))

    def _time(self, call: str, head: Any) -> Column | None:
        for name in head.column_names if self.time is None else [self.time]:
            kind = _date_kind(head.column(name).type)
            if kind is not None and name not in self.drop:
                return Column(name, kind)
        if self.time is None:
            return None
        if _is_number(head.column(self.time).type):
            return Column(self.time, SECONDS)
        raise StreamError(
            f"{call}: time {self.time!r}: expected dates as in 2024-03-31 23:59:00, or numbers, "
            f"got {_example(head, self.time)}. Convert them, or leave the column out: "
            f"drop={self.time!r}."
        )

    def _input(self, call: str, head: Any, name: str) -> Column | None:
        """Return a column that is read; ``None`` for one that is left out, which is said."""
        if name in self.categories:
            return Column(name, CATEGORY, tuple(map(str, self.categories[name])))
        asked = self.inputs is not None
        kind = head.column(name).type
        types = arrow(".types")
        if types.is_null(kind):
            if asked:
                return Column(name, NUMBER)
            LOGGER.warning(
                "%s: the column %r is empty in the first %d rows and is left out",
                *(call, name, head.num_rows),
            )
            return None
        if not name and not asked:
            LOGGER.info("%s: a column without a name is left out", call)
            return None
        if types.is_boolean(kind):
            return Column(name, BOOL)
        if _is_number(kind):
            return Column(name, NUMBER)
        if types.is_binary(kind):
            raise StreamError(
                f"{call}: the column {name!r} holds text that is not UTF-8. Convert the table with "
                f"iconv, or leave the column out: drop={name!r}."
            )
        values = _values(head, name)
        if values is not None and 0 < len(values) <= MOST_VALUES:
            return Column(name, CATEGORY, tuple(values))
        if asked:
            raise StreamError(
                f"{call}: input {name!r}: expected numbers, or text with at most {MOST_VALUES} "
                f"different values, got {_example(head, name)} and others. Leave it out, or give "
                "its values: categories."
            )
        LOGGER.warning(
            "%s: the column %r holds neither numbers nor at most %d different values, and is "
            "left out",
            *(call, name, MOST_VALUES),
        )
        return None


def _target(call: str, head: Any, name: str) -> Column:
    types, kind = arrow(".types"), head.column(name).type
    place = f"{call}: target {name!r}"
    if types.is_null(kind) or head.column(name).null_count == head.num_rows:
        raise StreamError(
            f"{place}: expected numbers, got an empty column in the first {head.num_rows} rows. "
            "Choose another target, or begin the table where it begins."
        )
    if types.is_boolean(kind):
        return Column(name, BOOL)
    if not _is_number(kind):
        raise StreamError(
            f"{place}: expected a column of numbers, got {_example(head, name)}. Choose another "
            "target, or mend the cell."
        )
    column = Column(name, NUMBER)
    found = numbers_of(column, head.column(name))
    known = found[np.isfinite(found)]
    if len(known) > 1 and len(set(known.tolist())) == 1:
        LOGGER.warning(
            "%s is constant, %g, in the first %d rows: nothing is learned until it changes",
            *(place, known[0], head.num_rows),
        )
    return column


def _only_number(call: str, head: Any) -> tuple[str, ...]:
    """Return the single column of numbers."""
    names = [name for name in head.column_names if _is_number(head.column(name).type)]
    if len(names) != 1:
        listed = ", ".join(map(repr, names)) or "none"
        raise SettingError(
            f"{call}: expected a target, got none, and not exactly one column of numbers: {listed}."
            " Choose one, or several: target='NAME'."
        )
    return (names[0],)


def _date_kind(kind: Any) -> str | None:
    types = arrow(".types")
    if types.is_timestamp(kind):
        return DATE if kind.tz is None else UTC_DATE
    return DATE if types.is_date(kind) else None


def _is_number(kind: Any) -> bool:
    types = arrow(".types")
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _values(head: Any, name: str) -> list[str] | None:
    """Return the different values of a column of text, sorted; ``None`` if it holds no text."""
    pa, types = arrow(), arrow(".types")
    column = head.column(name)
    texts = (types.is_string, types.is_large_string, types.is_dictionary, types.is_string_view)
    if not any(is_text(column.type) for is_text in texts):
        return None
    words = column.cast(pa.string()).unique().drop_null()
    return sorted(words.to_pylist())


def _example(head: Any, name: str) -> str:
    """Describe what a column holds by the first cell that is no number."""
    for number, cell in enumerate(head.column(name).to_pylist(), start=1):
        if cell is not None:
            try:
                float(cell)
            except (TypeError, ValueError):
                return f"{str(cell)[:40]!r} in row {number}"
    return f"a column of {head.column(name).type}"
