"""Arrow, which reads CSV and Parquet: imported when a table is opened, and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from uoro.errors import MissingFrameworkError, StreamError
from uoro.tables.columns import BOOL, CATEGORY, DATE, UTC_DATE, Column, Columns

HUGE = 1e30
"""Numbers from this size on are refused: their squares leave the range of float32."""
GAPS = ["", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NAN", "-nan", "NULL", "null", "Null", "None",
        "none", "-", "?", "<NA>", "#NA", "inf", "-inf", "Inf", "-Inf"]  # fmt: skip
"""Cells that stand for a gap."""
NANOSECONDS = 1e-9

Matrix = np.ndarray[Any, np.dtype[np.float64]]


def arrow(part: str = "") -> Any:
    """Return ``pyarrow``, or a part of it such as ``".csv"``.

    Raises:
        MissingFrameworkError: If it is not installed.
    """
    try:
        return import_module(f"pyarrow{part}")
    except ImportError as error:
        raise MissingFrameworkError(
            "table: CSV, TSV and Parquet are read by pyarrow, which is not installed. Try: pip "
            "install 'uoro[table]'."
        ) from error


def type_of(column: Column) -> Any:
    """Return the Arrow type as which a column of text is read."""
    pa = arrow()
    if column.kind in (DATE, UTC_DATE):
        return pa.timestamp("ns", tz="UTC" if column.kind == UTC_DATE else None)
    return {BOOL: pa.bool_(), CATEGORY: pa.string()}.get(column.kind, pa.float64())


def numbers_of(column: Column, values: Any) -> Matrix:
    """Return the cells of a column as numbers; a gap is NaN.

    Args:
        column: Column.
        values: Its cells, an Arrow array.

    Raises:
        ArrowInvalid: If a cell holds something else.
    """
    pa, compute = arrow(), arrow(".compute")
    if column.kind == CATEGORY:
        words = values.cast(pa.string())
        known = compute.index_in(words, value_set=pa.array(column.values, pa.string()))
        codes = _floats(known.cast(pa.float64()))
        present = ~np.asarray(words.is_null().to_numpy(zero_copy_only=False), bool)
        return np.where(np.isnan(codes) & present, float(len(column.values)), codes)
    if column.kind in (DATE, UTC_DATE):
        zone = "UTC" if column.kind == UTC_DATE else None
        dates = values.cast(pa.timestamp("ns", tz=zone), safe=False)
        return _floats(dates.cast(pa.int64()).cast(pa.float64(), safe=False)) * NANOSECONDS
    found = _floats(values.cast(pa.float64(), safe=False))
    return np.where(np.isfinite(found), found, np.nan)


def _floats(values: Any) -> Matrix:
    array = values.combine_chunks() if hasattr(values, "combine_chunks") else values
    return np.array(array.to_numpy(zero_copy_only=False), np.float64)


def matrix_of(columns: Columns, table: Any) -> Matrix:
    """Return the rows of an Arrow table as numbers, in the order of the columns used."""
    each = [numbers_of(column, _joined(table.column(column.name))) for column in columns.each]
    return np.stack(each, axis=1) if each else np.zeros((table.num_rows, 0))


def _joined(chunked: Any) -> Any:
    return chunked.combine_chunks() if hasattr(chunked, "combine_chunks") else chunked


def require_moderate(call: str, columns: Columns, rows: Matrix, spell_row: Any) -> None:
    """Check that no number is huge.

    Args:
        call: Call to name in errors.
        columns: Columns.
        rows: Rows.
        spell_row: Function from the index of a row to words such as ``"line 17"``.

    Raises:
        StreamError: If one is `HUGE` or larger.
    """
    with np.errstate(invalid="ignore"):
        huge = np.abs(rows) >= HUGE
    if huge.any():
        row, place = (int(index[0]) for index in np.nonzero(huge))
        raise StreamError(
            f"{call}: {spell_row(row)}: {columns.names[place]!r}: expected a number below "
            f"{HUGE:g}, got {rows[row, place]:g}. Mend the cell, leave the column out, or read "
            "such cells as gaps: malformed='skip'."
        )
