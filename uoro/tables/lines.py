"""Lines of CSV or TSV as rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from uoro.errors import StreamError
from uoro.tables.arrow import GAPS, HUGE, Matrix, arrow, matrix_of, numbers_of, type_of
from uoro.tables.columns import NUMBER, SECONDS, Column, Columns
from uoro.tables.dialect import NEWLINE, Dialect, Indices, whole_lines
from uoro.tables.head import HEAD_ROWS

Malformed: TypeAlias = Literal["stop", "skip"]

SKIP = "Mend it, or leave out what is malformed, and count it: malformed='skip'."


class Parsed(NamedTuple):
    """Rows of some lines.

    Attributes:
        rows: Numbers of each row.
        ends: Number of bytes up to the end of each row.
        lines: Number of lines up to the end of each row.
        skipped: Number of rows and cells left out up to the end of each row.
        consumed: Number of bytes of all whole lines, or of those before a malformed one.
        passed: Number of those lines.
        left_out: Number of rows and cells left out among them.
    """

    rows: Matrix
    ends: Indices
    lines: Indices
    skipped: Indices
    consumed: int
    passed: int
    left_out: int


BROKEN = (
    "expected one line for each row, got cells in quotes with line breaks in them. Write the table "
    "anew without them, as Parquet for example."
)
_NONE: Indices = np.zeros(0, np.int64)
NOTHING = Parsed(np.zeros((0, 0)), _NONE, _NONE, _NONE, 0, 0, 0)


def read_head(
    call: str, data: bytes, dialect: Dialect, *, final: bool, malformed: Malformed
) -> Any:
    """Return the first rows behind the header, with the types that their cells show.

    Args:
        call: Call to name in errors.
        data: Bytes of the table, from its first one.
        dialect: How they are written.
        final: Whether the last line needs no line break.
        malformed: Whether to stop at a malformed row. With ``"skip"`` a column of which more than
            half can be read as numbers is one of numbers.

    Raises:
        StreamError: If there is no row, or one has another number of cells or a line break in one.
    """
    ends = whole_lines(data, final=final)[: HEAD_ROWS + 1]
    text = data[int(ends[0]) : int(ends[-1])] if len(ends) > 1 else b""
    if not text.strip():
        raise StreamError(f"{call}: expected rows below the header, got none. The table is empty.")
    numbers, text = _without_blanks(text, whole_lines(text, final=True))
    bad: list[Any] = []
    table = _table(text, dialect, {}, None, bad)
    if table.num_rows + len(bad) != len(numbers):
        raise StreamError(f"{call}: {BROKEN}")
    if bad and malformed == "stop":
        line = f"line {int(numbers[bad[0].number - 1]) + 2}"
        raise StreamError(f"{call}: {line}: {_length(bad[0])}. {SKIP}")
    if malformed == "skip":
        pa = arrow()
        for place, name in enumerate(table.column_names):
            if table.column(name).type == pa.string():
                words = table.column(name)
                found = _careful(Column(name, NUMBER), words, dialect, [])
                if np.isfinite(found).sum() > (len(words) - words.null_count) / 2:
                    table = table.set_column(place, name, pa.array(found))
    return table


class Fault(NamedTuple):
    """What is malformed.

    Attributes:
        row: Index of the row.
        why: What was expected, and what there is.
        whole: Whether the whole row is left out, and not a cell alone.
    """

    row: int
    why: str
    whole: bool = False


@dataclass(frozen=True)
class Parser:
    """A parser of the lines of one table.

    Args:
        columns: Columns to use.
        malformed: What to do with a cell that cannot be read and a row of another length:
            ``"stop"``, or ``"skip"`` and count them.
    """

    columns: Columns
    malformed: Malformed

    def parse(self, call: str, data: bytes, dialect: Dialect, *, final: bool, line: int) -> Parsed:
        """Parse the whole lines of some bytes, up to the first malformed one.

        Args:
            call: Call to name in errors.
            data: Bytes.
            dialect: How they are written.
            final: Whether the last line needs no line break.
            line: Number of lines before them, for errors.

        Raises:
            StreamError: If the first row is malformed.
        """
        ends = whole_lines(data, final=final)
        if not len(ends):
            return NOTHING
        consumed, passed = int(ends[-1]), len(ends)
        kept, text = _without_blanks(data[:consumed], ends)
        if not len(kept):
            return NOTHING._replace(consumed=consumed, passed=passed)
        rows, faults = self._rows(call, text, dialect, len(kept))
        if faults and self.malformed == "stop":
            first = min(faults)
            stop = first.row
            if not stop:
                number = line + int(kept[0]) + 1
                raise StreamError(f"{call}: line {number}: {first.why}. {SKIP}")
            rows, kept, faults = rows[:stop], kept[:stop], []
            consumed, passed = int(ends[kept[-1]]), int(kept[-1]) + 1
        counts = np.bincount([fault.row for fault in faults], minlength=len(kept))
        use = np.ones(len(kept), bool)
        use[[fault.row for fault in faults if fault.whole]] = False
        kept = kept[use]
        return Parsed(
            rows[use],
            ends[kept],
            kept + 1,
            np.cumsum(counts)[use],
            consumed,
            passed,
            int(counts.sum()),
        )

    def _rows(
        self, call: str, text: bytes, dialect: Dialect, count: int
    ) -> tuple[Matrix, list[Fault]]:
        """Return the numbers of ``count`` lines, with gaps for faults, and the faults."""
        pa, bad = arrow(), list[Any]()
        types = {column.name: type_of(column) for column in self.columns.each}
        faults: list[Fault] = []
        try:
            table = _table(text, dialect, types, self.columns.names, bad)
            found = matrix_of(self.columns, table)
        except pa.ArrowInvalid:
            bad.clear()
            try:
                words = dict.fromkeys(types, pa.string())
                table = _table(text, dialect, words, self.columns.names, bad)
            except pa.ArrowInvalid as error:
                raise StreamError(
                    f"{call}: {error}. Convert the table to UTF-8 with iconv."
                ) from error
            each = [_careful(c, table.column(c.name), dialect, faults) for c in self.columns.each]
            found = np.stack(each, axis=1)
        if len(found) + len(bad) != count:
            raise StreamError(f"{call}: {BROKEN}")
        with np.errstate(invalid="ignore"):
            huge = np.abs(found) >= HUGE
        for row, place in zip(*np.nonzero(huge), strict=True):
            name, number = self.columns.names[place], found[row, place]
            faults.append(
                Fault(int(row), f"{name!r}: expected a number below {HUGE:g}, got {number:g}")
            )
        found[huge] = np.nan
        if not bad:
            return found, faults
        whole = [one.number - 1 for one in bad]
        there = np.setdiff1d(np.arange(count), whole)
        rows = np.full((count, found.shape[1]), np.nan)
        rows[there] = found
        faults = [fault._replace(row=int(there[fault.row])) for fault in faults]
        return rows, [
            *faults,
            *(Fault(row, _length(one), True) for row, one in zip(whole, bad, strict=True)),
        ]


def _without_blanks(data: bytes, ends: Indices) -> tuple[Indices, bytes]:
    """Return the indices of the lines that are not empty, and their bytes."""
    starts = np.concatenate([[0], ends[:-1]])
    length, raw = ends - starts, np.frombuffer(data, np.uint8)
    blank = ((length == 1) & (raw[starts] == NEWLINE)) | ((length == 2) & (raw[starts] == 13))
    kept: Indices = np.flatnonzero(~blank)
    if len(kept) == len(ends):
        return kept, data
    return kept, b"".join(data[int(starts[i]) : int(ends[i])] for i in kept)


def _length(row: Any) -> str:
    expected, got = row.expected_columns, row.actual_columns
    return f"expected {expected} cells, as in the header, got {got}"


def _careful(column: Column, words: Any, dialect: Dialect, faults: list[Fault]) -> Matrix:
    """Read a column cell by cell; a malformed cell is a gap, and is noted."""
    pa = arrow()
    found = np.full(len(words), np.nan)
    for row, word in enumerate(words.to_pylist()):
        if word is None:
            continue
        plain = word.strip()
        plain = plain if dialect.decimal == "." else plain.replace(dialect.decimal, ".")
        try:
            found[row] = numbers_of(column, pa.array([plain]).cast(type_of(column)))[0]
        except pa.ArrowInvalid:
            kind = "a number" if column.kind in (NUMBER, SECONDS) else f"a {column.kind}"
            faults.append(Fault(row, f"{column.name!r}: expected {kind}, got {word[:40]!r}"))
    return found


def _table(
    text: bytes,
    dialect: Dialect,
    types: dict[str, Any],
    names: Sequence[str] | None,
    bad: list[Any],
) -> Any:
    """Read lines as an Arrow table; rows of another length are left out and noted."""
    pa, read = arrow(), arrow(".csv")

    def note(row: Any) -> str:
        bad.append(row)
        return "skip"

    return read.read_csv(
        pa.BufferReader(text),
        read_options=read.ReadOptions(
            column_names=list(dialect.header), use_threads=False, block_size=len(text) + 1
        ),
        parse_options=read.ParseOptions(
            delimiter=dialect.delimiter, invalid_row_handler=note, ignore_empty_lines=False
        ),
        convert_options=read.ConvertOptions(
            column_types=types,
            null_values=GAPS,
            strings_can_be_null=True,
            decimal_point=dialect.decimal,
            include_columns=list(names or ()),
        ),
    )
