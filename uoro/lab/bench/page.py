"""The tables of `docs/speed.md`, from the files of ``uoro bench``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from uoro.arguments import mismatch
from uoro.errors import ReproductionError
from uoro.lab.bench.document import BenchDocument
from uoro.lab.bench.table import facts, table
from uoro.lab.jobs import Done

MARK = "<!-- Below: python -m uoro.lab.bench.page docs/speed.md docs/speed/*/bench.json -->\n"
COLUMNS = (0, 1, 4, 5, 6, 7, 9)
"""Columns of a page: row, time, ratio, its quartiles, its base, × roofline, × params."""


def tables(files: Iterable[Path]) -> str:
    """Return all groups of the files as Markdown, in order."""
    groups = [(id, done) for file in files for id, done in BenchDocument(file, []).results.items()]
    return "\n".join(f"### {id}\n\n{_markdown(done)}" for id, done in groups)


def write(page: Path, files: Iterable[Path]) -> None:
    """Write the tables below the mark of a page.

    Raises:
        ReproductionError: If the page has no mark.
    """
    text = page.read_text(encoding="utf-8")
    if MARK not in text:
        expected = f"a line {MARK.strip()!r}"
        raise ReproductionError(mismatch("page", str(page), expected, "none", "Add the line."))
    prose, _, _ = text.partition(MARK)
    page.write_text(f"{prose}{MARK}\n{tables(files)}", encoding="utf-8")


def _markdown(done: Done) -> str:
    heading, *rows = ([row[column] for column in COLUMNS] for row in table(done))
    rule = ["---", *["---:"] * (len(COLUMNS) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in (heading, rule, *rows)]
    return "\n".join([*lines, "", *facts(done), ""])


if __name__ == "__main__":
    import sys

    write(Path(sys.argv[1]), map(Path, sys.argv[2:]))
