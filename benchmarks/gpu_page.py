"""Show the files of `gpu.py`: as a table on the terminal, and on the page `docs/speed.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

BEGIN = "<!-- Below: python benchmarks/gpu.py --page docs/speed.md docs/speed/gpu*.json -->\n"
END = "<!-- Above: benchmarks/gpu.py -->\n"
COLUMNS = ("row", "units", "streams", "µs a step", "quartiles", "ratio", "MiB")
NOT_REACHED = "not reached"


def cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return time, quartiles, ratio and memory of a measured row as text."""
    return (
        f"{row['microseconds']:,.1f}",
        f"{row['low']:,.1f}–{row['high']:,.1f}",
        f"{row['to_tbptt']:.2f}" if "to_tbptt" in row else "",
        _mebibytes(row["memory_bytes"]),
    )


def failure(row: dict[str, Any]) -> str:
    """Return why a row has no time."""
    return str(row.get("error", row.get("skipped")))


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Return the lines of a table for the terminal, without rows that were not reached."""
    heading = f"{'':32}{'units':>6}{'streams':>8}{'µs a step':>12}{'quartiles':>22}"
    yield f"{heading}{'ratio':>7}{'MiB':>9}"
    for row in rows:
        head = f"{row['backend']} {row['mode']} {row['estimator']}"
        head = f"{head:32}{row['units']:6}{row['streams']:8}"
        if "microseconds" in row:
            time, quartiles, ratio, memory = cells(row)
            yield f"{head}{time:>12}{quartiles:>22}{ratio:>7}{memory:>9}"
        elif failure(row) != NOT_REACHED:
            yield f"{head}  {failure(row)}"[:120].replace("\n", " ")


def section(document: dict[str, Any]) -> str:
    """Return the Markdown of one file: a table per backend and mode, then the facts."""
    lines = list[str]()
    for (backend, mode), group in groupby(
        sorted(document["rows"], key=lambda row: (row["backend"], row["mode"])),
        key=lambda row: (row["backend"], row["mode"]),
    ):
        measured = [row for row in group if "microseconds" in row]
        if not measured:
            continue
        lines += [f"#### {backend}, {mode}, on {_name(document)}", ""]
        lines += [_line(COLUMNS), _line(["---", *["---:"] * (len(COLUMNS) - 1)])]
        for row in measured:
            head = (row["estimator"], f"{row['units']:,}", f"{row['streams']:,}")
            lines.append(_line([*head, *cells(row)]))
        lines.append("")
    return "\n".join([*lines, *(f"- {fact}" for fact in _facts(document)), ""])


def write(page: Path, files: Iterable[Path]) -> None:
    """Write the sections of all files between the marks of a page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"gpu.py --page: expected {BEGIN.strip()!r} and {END.strip()!r} in {page}")
    page.write_text(f"{before}{begin}\n{sections(files)}\n{end}{after}", encoding="utf-8")


def sections(files: Iterable[Path]) -> str:
    """Return the sections of all files, in the order of their names."""
    ordered = sorted(files, key=lambda file: file.stem)
    return "\n".join(section(json.loads(file.read_text(encoding="utf-8"))) for file in ordered)


def _mebibytes(memory: int | None) -> str:
    if memory is None:
        return ""
    size = memory / 2**20
    return f"{size:,.0f}" if size >= 10 else f"{size:.1f}"


def _name(document: dict[str, Any]) -> str:
    return str(document["card"] or document["device"]).partition(",")[0]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _facts(document: dict[str, Any]) -> Iterator[str]:
    made_with = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    yield f"{document['card'] or document['device']}. Python {document['python']}, {made_with}."
    yield f"A GRU, alphabet 3, {document['dtype']}, Adam; matrix products: {document['matmul']}."
    if "tests" in document:
        yield f"Tests that need a GPU: {document['tests']['summary'].strip('= ')}."
    for why, group in groupby(
        sorted((row for row in document["rows"] if "microseconds" not in row), key=failure),
        key=failure,
    ):
        names = "; ".join(
            f"{row['backend']} {row['mode']} {row['estimator']} {row['units']:,} × "
            f"{row['streams']:,}"
            for row in group
        )
        yield f"No time ({' '.join(why.split())[:200]}), units × streams: {names}."
