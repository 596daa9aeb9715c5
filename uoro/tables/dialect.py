"""How a table of text is written: its header, its delimiter, and where its lines end."""

from __future__ import annotations

import csv
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from uoro.errors import StreamError

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

DELIMITERS = ",;\t|"
NEWLINE = 10


class Dialect(NamedTuple):
    """How a table is written.

    Attributes:
        header: Names of its columns.
        delimiter: Character between two cells.
        decimal: Character before the fraction of a number.
    """

    header: tuple[str, ...]
    delimiter: str
    decimal: str = "."


def whole_lines(data: bytes, *, final: bool) -> Indices:
    """Return the end of each whole line; with ``final`` the last needs no line break."""
    ends: Indices = np.flatnonzero(np.frombuffer(data, np.uint8) == NEWLINE) + 1
    rest = len(ends) == 0 or int(ends[-1]) < len(data)
    return np.append(ends, len(data)) if final and data and rest else ends


def dialect_of(call: str, line: bytes, following: bytes) -> Dialect:
    """Return how a table is written, by its first line and the one after it.

    Raises:
        StreamError: If the first line names no columns.
    """
    try:
        text, more = line.decode().strip("\r\n"), following.decode(errors="replace")
    except UnicodeDecodeError as error:
        raise StreamError(
            f"{call}: the header is not UTF-8: {error.reason}. Convert the table with iconv."
        ) from error
    delimiter = max(DELIMITERS, key=text.count)
    names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter), [])]
    if not any(names):
        raise StreamError(f"{call}: expected a header with names of columns, got an empty line.")
    if all(map(_is_number, filter(None, names))):
        raise StreamError(
            f"{call}: expected a header with names of columns, got only numbers, {text[:60]!r}. "
            "Write a first line that names the columns."
        )
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise StreamError(
            f"{call}: expected different names of columns, got {twice[0]!r} twice. Rename one."
        )
    cells = next(csv.reader([more], delimiter=delimiter), [])
    comma = delimiter != "," and any("," in c and _is_number(c.replace(",", ".")) for c in cells)
    return Dialect(tuple(names), delimiter, "," if comma else ".")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
