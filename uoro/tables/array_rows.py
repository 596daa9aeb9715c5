"""The rows of Parquet and ``.npy`` files, from any row on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uoro.errors import StreamError
from uoro.learning.stream import not_a_position, require_numbers
from uoro.tables.arrow import HUGE, Matrix, arrow, matrix_of, require_moderate
from uoro.tables.columns import Columns
from uoro.tables.head import HEAD_ROWS

BLOCK_ROWS = 1024


class RowPlace(NamedTuple):
    """A place in files of rows.

    Attributes:
        lap: Number of times that all files were read before.
        file: Index of the file.
        row: Number of rows of the file before the place.
        size: Size of the file in bytes, by which it is recognized.
        skipped: Number of cells left out before, in all laps.
    """

    lap: int
    file: int
    row: int
    size: int
    skipped: int


def blocks_of(call: str, path: Path, first: int, names: Sequence[str] | None) -> Iterator[Any]:
    """Read the rows of a file from one on, in Arrow tables of a thousand or so.

    Args:
        call: Call to name in errors.
        path: Parquet or ``.npy``, by its name.
        first: Number of rows before.
        names: Columns to read; ``None`` for all.

    Raises:
        StreamError: If the file cannot be read.
    """
    reader = _numpy_blocks if path.suffix == ".npy" else _parquet_blocks
    try:
        yield from reader(path, first, names)
    except StreamError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:  # Arrow's errors are of these.
        raise StreamError(
            f"{call}: expected a {'NumPy' if path.suffix == '.npy' else 'Parquet'} file that can "
            f"be read, got {str(path)!r}: {str(error).rstrip('.')}."
        ) from error


def _parquet_blocks(path: Path, first: int, names: Sequence[str] | None) -> Iterator[Any]:
    pa = arrow()
    with arrow(".parquet").ParquetFile(path) as file:
        group, before = 0, 0
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        while group < len(counts) and before + counts[group] <= first:
            before, group = before + counts[group], group + 1
        drop = first - before
        for batch in file.iter_batches(
            BLOCK_ROWS, row_groups=range(group, len(counts)), columns=names, use_threads=False
        ):
            gone = min(drop, batch.num_rows)
            drop -= gone
            if gone < batch.num_rows:
                yield pa.Table.from_batches([batch.slice(gone)])


def _numpy_blocks(path: Path, first: int, names: Sequence[str] | None) -> Iterator[Any]:
    while True:
        # Mapped anew for each block, as pages that were read count as memory of the process.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.ndim > 2 or (array.ndim == 2 and array.dtype.names) or array.ndim == 0:
            raise StreamError(
                f"table({str(path)!r}): expected rows, in one dimension or two, got an array of "
                f"shape {array.shape}."
            )
        block = array[first : first + BLOCK_ROWS]
        if not len(block) and first:
            return
        if array.dtype.names:
            each = {name: np.array(block[name]) for name in array.dtype.names}
        else:
            wide = block.reshape(len(block), -1)
            each = {str(i): np.array(wide[:, i]) for i in range(wide.shape[1])}
        del array, block
        count = len(next(iter(each.values()), ()))
        if not count:
            return
        chosen = each if names is None else {name: each[name] for name in names}
        yield arrow().table(chosen)
        first += count


def array_head(call: str, path: Path) -> Any:
    """Return the first rows of a file as an Arrow table.

    Raises:
        StreamError: If it cannot be read or has no rows.
    """
    for table in blocks_of(call, path, 0, None):
        return table.slice(0, HEAD_ROWS)
    raise StreamError(f"{call}: expected rows, got none: {str(path)!r} is empty.")


class ArrayRows:
    """The rows of Parquet or ``.npy`` files, one file after the other, in several laps.

    Args:
        paths: Paths of the files.
        columns: Columns to use.
        skip: Whether to read huge numbers as gaps, and count them.
        laps: Number of passes over the files.
    """

    def __init__(
        self, paths: Sequence[Path], columns: Columns, *, skip: bool = False, laps: int = 1
    ) -> None:
        self._paths, self._columns, self._skip, self._laps = paths, columns, skip, laps
        self._place = RowPlace(0, 0, 0, 0, 0)
        self._lap = 0
        self._blocks: Iterator[Any] | None = None
        self._rows: Matrix = np.zeros((0, 0))
        self._left_out: Any = np.zeros(0, np.int64)

    @property
    def lap(self) -> int:
        """Number of times that all files were read before the last row."""
        return self._lap

    @property
    def skipped(self) -> int:
        """Number of cells left out so far, in all laps."""
        return self._place.skipped

    @property
    def position(self) -> dict[str, int]:
        """Position of the next row."""
        return self._place._asdict()

    def seek(self, position: Any) -> None:
        """Continue at a position.

        Raises:
            StreamError: If the position is invalid, or the file differs from the one read.
        """
        place = RowPlace(*require_numbers("table", position, *RowPlace._fields))
        ended = place.lap == self._laps and not place.file
        if not ended and (place.file >= len(self._paths) or place.lap >= self._laps):
            wanted = f"a 'file' below {len(self._paths)}, a 'lap' below {self._laps}"
            raise not_a_position("table", position, wanted)
        path = self._paths[place.file]
        if place.row and _size(path) != place.size:
            raise StreamError(
                f"table.seek(position): expected {str(path)!r} as it was read, of {place.size} "
                f"bytes, got {_size(path)} bytes. Restore the file, or begin a new stream."
            )
        self._place, self._lap = place, place.lap
        self._blocks, self._rows = None, self._rows[:0]

    def read(self, count: int) -> Matrix | None:
        """Return at most ``count`` rows of one lap; ``None`` at the end.

        Raises:
            StreamError: If a file cannot be read, or holds a huge number.
        """
        while not len(self._rows):
            if self._place.lap == self._laps:
                return None
            self._read_on()
        part, self._rows = self._rows[:count], self._rows[count:]
        gone, self._left_out = self._left_out[:count], self._left_out[count:]
        self._place = self._place._replace(
            row=self._place.row + len(part), skipped=self._place.skipped + int(gone.sum())
        )
        return part

    def wait(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def catch_up(self) -> bool:
        """Return true: a file is read on from any row."""
        return True

    def _read_on(self) -> None:
        """Read the next block of the file, or go to the next one."""
        place = self._place
        path = self._paths[place.file]
        call = f"table({str(path)!r})"
        if self._blocks is None:
            self._columns.require_in(call, array_head(call, path).column_names)
            self._blocks = blocks_of(call, path, place.row, self._columns.names)
            self._place = place._replace(size=_size(path))
            self._lap = place.lap
        table = next(self._blocks, None)
        if table is None:
            self._blocks = None
            file, lap = place.file + 1, place.lap
            if file == len(self._paths):
                file, lap = 0, lap + 1
            self._place = RowPlace(lap, file, 0, 0, place.skipped)
            return
        try:
            rows = matrix_of(self._columns, table)
        except arrow().ArrowInvalid as error:
            raise StreamError(f"{call}: from row {place.row + 1} on: {error}.") from error
        if not self._skip:
            require_moderate(call, self._columns, rows, lambda row: f"row {place.row + row + 1}")
        with np.errstate(invalid="ignore"):
            huge = np.abs(rows) >= HUGE
        rows[huge] = np.nan
        self._rows, self._left_out = rows, huge.sum(axis=1)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise StreamError(
            f"table({str(path)!r}): expected a file that can be read: {error.strerror}."
        ) from error
