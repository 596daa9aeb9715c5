"""Make mistakes that people make, and print what each says.

    python benchmarks/mistakes.py                       # print
    python benchmarks/mistakes.py --page docs/mistakes.md

A mistake is a function below, whose docstring names it. What it says is an error, a warning, or a
number that shows it; what nobody can know is listed as such.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mistakes_jax import MISTAKES as IN_JAX
from mistakes_torch import MISTAKES as IN_TORCH
from mistakes_usage import MISTAKES as IN_USAGE

BEGIN, END = "<!-- begin of what benchmarks/mistakes.py writes -->", "<!-- end -->"
LONGEST = 400


class Said(NamedTuple):
    """What a mistake says.

    Attributes:
        mistake: The mistake, in words.
        kind: ``"error"``, ``"warning"``, ``"number"`` for a loss that is NaN, ``"works"`` where it
            is no mistake here, ``"nothing"`` where nobody can know.
        words: The message, on one line.
    """

    mistake: str
    kind: str
    words: str


def said(mistake: Callable[[], Any]) -> Said:
    """Make a mistake, and return what it says."""
    name = " ".join((mistake.__doc__ or "").split()).removesuffix(".")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            returned = mistake()
        except Exception as error:
            notes = " ".join(getattr(error, "__notes__", ()))
            words = f"{type(error).__name__}: {error} {notes}".partition("-----")[0]
            return Said(name, "error", _line(words))
    if caught:
        first = caught[0]
        return Said(name, "warning", _line(f"{first.category.__name__}: {first.message}"))
    kind, _, words = str(returned).partition(": ")
    return Said(name, kind, _line(words))


def all_said() -> Iterator[Said]:
    """Make every mistake."""
    for mistake in (*IN_TORCH, *IN_USAGE, *IN_JAX):
        yield said(mistake)


def _line(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def page(rows: list[Said]) -> str:
    """Return the table, as Markdown."""
    counts = {kind: sum(row.kind == kind for row in rows) for kind in KINDS}
    total = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
    lines = [
        BEGIN,
        "",
        f"{len(rows)} mistakes: {total}.",
        "",
        "| | Mistake | What is said |",
        "|---|---|---|",
    ]
    for number, row in enumerate(rows, 1):
        words = row.words.replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| {number} | {row.mistake} | **{row.kind}** {words} |")
    return "\n".join([*lines, "", END])


KINDS = ("error", "warning", "number", "works", "nothing")


def main() -> None:
    """Print what each mistake says, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path, help="Markdown file whose table is written anew")
    chosen = parser.parse_args()
    rows = []
    for row in all_said():
        rows.append(row)
        print(f"{len(rows):2} {row.kind:8} {row.mistake}\n            {row.words}", flush=True)
    if chosen.page is not None:
        text = chosen.page.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        chosen.page.write_text(before + page(rows) + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
