"""A table to be opened: files by their form, a folder of them, or standard input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uoro.errors import SettingError, StreamError
from uoro.files.pipes import STANDARD_INPUT, Bytes, Resume
from uoro.tables.array_rows import ArrayRows, array_head
from uoro.tables.arrow import Matrix, matrix_of
from uoro.tables.columns import Columns
from uoro.tables.head import HEAD_ROWS, Wanted
from uoro.tables.lines import Malformed, Parser
from uoro.tables.pipe_rows import CALL, PipeRows, wait_for_beginning
from uoro.tables.rows import Rows
from uoro.tables.text_rows import TextRows, read_beginning

TEXTS = (".csv", ".tsv", ".tab", ".txt")
ARRAYS = (".parquet", ".pq", ".npy")
PACKED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Source:
    """A table that can be read.

    Attributes:
        columns: Columns used.
        head: First rows; no rows if the columns were known.
        whole: Whether the head is the whole table.
        grows: Whether more rows may come.
        rows: Function that returns a reader, at the first row.
        name: Name of the table, for titles.
    """

    columns: Columns
    head: Matrix
    whole: bool
    grows: bool
    rows: Callable[[], Rows]
    name: str


def is_table(path: Path) -> bool:
    """Return whether a path names a table: by its suffix, or a folder that holds one."""
    try:
        if path.is_dir():
            return any(_suffix(inner) in (*TEXTS[:3], *ARRAYS) for inner in path.iterdir())
    except (OSError, ValueError):  # A name that no file can have, or a folder that is closed.
        return False
    return _suffix(path) in (*TEXTS[:3], *ARRAYS)


def open_table(
    call: str,
    paths: Sequence[Path],
    wanted: Wanted,
    *,
    known: Any = None,
    malformed: Malformed = "stop",
    laps: int = 1,
    follow: bool = False,
    resume: Resume = "restarts",
    descriptor: int = STANDARD_INPUT,
) -> Source:
    """Open a table, and find out what its columns hold, from its first rows.

    Args:
        call: Call to name in errors.
        paths: Files, or folders of them, in the order in which they are read; ``-`` alone is
            standard input.
        wanted: What is wanted of the columns.
        known: Columns as `Columns.record` returned them, if they were found before.
        malformed: Whether to ``"stop"`` at what cannot be read, or to ``"skip"`` and count it.
        laps: Number of passes over the files.
        follow: Whether to wait for more at the end of the file, a single one.
        resume: How standard input behaves when a run resumes.
        descriptor: File descriptor of standard input.

    Raises:
        StreamError: If a file cannot be read, is empty, or has other columns than expected.
        SettingError: If arguments contradict each other.
        UnknownNameError: If there is no column of a name.
    """
    before = None if known is None else Columns.of(call, known)
    if Path("-") in paths:
        if len(paths) > 1 or laps != 1 or follow:
            raise SettingError(
                f"{call}: expected '-' alone, without laps and follow, as standard input is read "
                "once. Leave the rest out."
            )
        return _standard_input(call, wanted, before, malformed, resume, descriptor)
    files = _files(call, paths)
    kinds = {_suffix(path) in ARRAYS for path in files}
    if len(kinds) > 1:
        raise SettingError(f"{call}: expected text or arrays, got both. Read one kind at a time.")
    if follow and (len(files) != 1 or laps != 1 or kinds == {True}):
        raise SettingError(
            f"{call}: follow=True: expected one file of CSV or TSV and no laps, got "
            f"{len(files)} files ({files[0].name!r}) and laps={laps!r}."
        )
    name = str(paths[0].name) + ("" if len(paths) == 1 else ", …")
    if kinds == {True}:
        head = array_head(call, files[0])
        columns = before or wanted.columns(call, head)
        columns.require_in(call, head.column_names)

        def arrays() -> Rows:
            return ArrayRows(files, columns, skip=malformed == "skip", laps=laps)

        found = matrix_of(columns, head)
        return Source(columns, found, _ends(head, files), False, arrays, name)
    columns = before or wanted.columns(
        call, read_beginning(call, files[0], follow=follow, malformed=malformed)
    )
    parser = Parser(columns, malformed)

    def texts() -> Rows:
        return TextRows(files, parser, laps=laps, follow=follow)

    reader = TextRows(files[:1], parser, follow=follow)
    beginning, whole = reader.read(HEAD_ROWS), False
    if beginning is None:
        raise StreamError(f"{call}: expected rows below the header, got none: {str(files[0])!r}.")
    with suppress(StreamError):  # Of a later row, which is read when it is its turn.
        whole = not follow and len(files) == 1 and reader.read(1) is None
    return Source(columns, beginning, whole, follow, texts, name)


def _standard_input(
    call: str,
    wanted: Wanted,
    before: Columns | None,
    malformed: Malformed,
    resume: Resume,
    descriptor: int,
) -> Source:
    source, used = Bytes(CALL, descriptor), False
    data, dialect, head = b"", None, None
    if before is None:
        data, dialect, head = wait_for_beginning(source)
    columns = before or wanted.columns(call, head)

    def rows() -> Rows:
        nonlocal used
        if used:
            raise StreamError(f"{call}: standard input is read once. Write it into a file first.")
        used = True
        return PipeRows(source, Parser(columns, malformed), data, dialect, resume=resume)

    found = np.zeros((0, len(columns.each))) if head is None else matrix_of(columns, head)
    return Source(columns, found, source.closed, True, rows, "standard input")


def _files(call: str, paths: Sequence[Path]) -> list[Path]:
    """Return the files, those of a folder by their names."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inner = sorted(p for p in path.iterdir() if _suffix(p) in (*TEXTS, *ARRAYS))
            if not inner:
                raise StreamError(
                    f"{call}: expected a folder with files of {', '.join((*TEXTS, *ARRAYS))}, got "
                    f"none in {str(path)!r}."
                )
            files += inner
        elif not path.exists():
            raise StreamError(f"{call}: expected a file, got {str(path)!r}, which does not exist.")
        else:
            files.append(path)
    if not files:
        raise StreamError(f"{call}: expected a table, got no path. Give one, or '-'.")
    return files


def _suffix(path: Path) -> str:
    inner = path.with_suffix("") if path.suffix in PACKED else path
    return inner.suffix.lower()


def _ends(head: Any, files: list[Path]) -> bool:
    return len(files) == 1 and head.num_rows < HEAD_ROWS
