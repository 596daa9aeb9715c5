"""``uoro report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uoro.errors import ReproductionError


def report(
    folder: Annotated[Path, typer.Argument(help="Folder that `uoro reproduce` filled")],
    write: Annotated[
        Path | None, typer.Option(help="File to write the page to", show_default="print it")
    ] = None,
) -> None:
    """Build the page of results from a folder of them, as in docs/reproduction.md.

    Example: uoro report docs/reproduction --write docs/reproduction.md
    """
    from uoro.lab.reproduce import report as build_report

    page = build_report(folder, write or Path("page.md"))
    if write is None:
        print(page, end="")
        return
    try:
        write.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ReproductionError(
            f"report --write {write}: it cannot be written: {error.strerror}. Give another path."
        ) from error
