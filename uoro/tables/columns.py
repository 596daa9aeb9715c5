"""The columns of a table that a stream uses, and what each of them holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uoro.errors import StreamError, UnknownNameError, spelled

NUMBER, BOOL, CATEGORY = "number", "bool", "category"
DATE, UTC_DATE, SECONDS = "date", "utc date", "seconds"
TIMES = (DATE, UTC_DATE, SECONDS)
KINDS = (NUMBER, BOOL, CATEGORY, *TIMES)


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Name.
        kind: ``"number"``; ``"bool"``, read as 0 and 1; ``"category"``; or, for the time of a row,
            ``"date"``, ``"utc date"`` (with a time zone) or ``"seconds"``, a number.
        values: Values of a category; any other value is read as one code more.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the column as TOML and JSON hold it."""
        values = {"values": list(self.values)} if self.kind == CATEGORY else {}
        return {"name": self.name, "kind": self.kind, **values}


@dataclass(frozen=True)
class Columns:
    """The columns used, in the order of the numbers of a row.

    Attributes:
        each: The columns.
    """

    each: tuple[Column, ...]

    @classmethod
    def of(cls, call: str, records: Any) -> Columns:
        """Return the columns of what `record` returned.

        Raises:
            StreamError: If it is anything else.
        """
        try:
            each = tuple(
                Column(str(one["name"]), str(one["kind"]), tuple(map(str, one.get("values", ()))))
                for one in records
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise _no_columns(call, records) from error
        names = [column.name for column in each]
        if not each or len(set(names)) < len(names) or any(c.kind not in KINDS for c in each):
            raise _no_columns(call, records)
        return cls(each)

    def record(self) -> list[dict[str, Any]]:
        """Return the columns as TOML and JSON hold them."""
        return [column.record() for column in self.each]

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.each]

    @property
    def numbers(self) -> list[int]:
        """Places of the columns of numbers."""
        return self.places(NUMBER, BOOL)

    @property
    def categories(self) -> list[int]:
        """Places of the columns of categories."""
        return self.places(CATEGORY)

    @property
    def time(self) -> int | None:
        """Place of the column of times, if there is one."""
        return next(iter(self.places(*TIMES)), None)

    def places(self, *kinds: str) -> list[int]:
        """Return the places of the columns of some kinds."""
        return [i for i, column in enumerate(self.each) if column.kind in kinds]

    def place(self, name: str) -> int:
        """Return the place of a column."""
        return self.names.index(name)

    def require_in(self, call: str, header: Sequence[str]) -> None:
        """Check that a table has the columns; it may have more, in any order.

        Raises:
            StreamError: If one is missing.
        """
        missing = [name for name in self.names if name not in header]
        if missing:
            raise StreamError(
                f"{call}: expected the columns {_listed(self.names)}, as in the table read before, "
                f"got none of the name {_listed(missing)} among {_listed(header)}. Rename them, or "
                "begin a new run."
            )


def require_column(call: str, what: str, name: str, header: Sequence[str]) -> None:
    """Check that a table has a column.

    Raises:
        UnknownNameError: If it has none of the name; names the nearest.
    """
    if name not in header:
        raise UnknownNameError(call, f"column for {what}", name, header)


def _no_columns(call: str, records: Any) -> StreamError:
    return StreamError(
        f"{call}: columns: expected a list of tables with 'name' and 'kind', one of "
        f"{', '.join(KINDS)}, got {spelled(records)}. Leave it out, and they are found."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return shown + (", …" if len(names) > 20 else "")
