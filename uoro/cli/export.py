"""``uoro export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uoro.cli.help import console
from uoro.training import load_run


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write", show_default="model.safetensors in the run's folder"),
    ] = None,
) -> None:
    """Write the trained parameters to a plain safetensors file, under the model's own names.

    The parameters are those of the newest checkpoint; pair and optimizer are left out.

    Example: uoro export runs/book --out book.safetensors
    """
    trained = load_run(run)
    path = out or run / "model.safetensors"
    trained.export(path)
    numbers = sum(array.size for array in trained.arrays.values())
    console().print(
        f"{path}: {len(trained.arrays)} arrays, {numbers:,} numbers, step {trained.step:,}",
        markup=False,
        soft_wrap=True,
    )
