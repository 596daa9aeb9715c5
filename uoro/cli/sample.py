"""``uoro sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from uoro.checkpoint.folder import Checkpoints
from uoro.cli.help import console as make_console
from uoro.errors import CheckpointError, SettingError
from uoro.models import SymbolModel
from uoro.training import sample as draw_symbols
from uoro.training import unflatten
from uoro.training.config import settings_of
from uoro.training.saving import CHECKPOINTS


def sample(
    run: Annotated[Path, typer.Argument(help="Folder of a run of a symbol task")],
    length: Annotated[int, typer.Option(help="Number of symbols to draw")] = 500,
    temperature: Annotated[
        float, typer.Option(help="Divisor of the logits; 0 takes the likeliest symbol")
    ] = 1.0,
    prompt: Annotated[
        str | None, typer.Option(help="Text to continue", show_default="a new line")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws")] = 0,
) -> None:
    """Sample text from the newest checkpoint of a run.

    Example: uoro sample runs/text-1 --length 1000 --temperature 0.8 --prompt "ROMEO."
    """
    run_sample(
        make_console(), run, length=length, temperature=temperature, prompt=prompt, seed=seed
    )


def run_sample(
    console: Console,
    folder: Path,
    *,
    length: int,
    temperature: float,
    prompt: str | None,
    seed: int,
) -> None:
    """Print a sample from the newest checkpoint of a run."""
    call = f"sample {folder}"
    settings = settings_of(folder, call=call)
    found = Checkpoints(folder / CHECKPOINTS).latest()
    if found is None:
        raise CheckpointError(f"{call}: the run has no checkpoint yet. Try again later.")
    alphabet = found.snapshot.document.get("alphabet")
    if not isinstance(alphabet, str):
        raise SettingError(f"{call}: expected a run of a symbol task, got '{settings.task}'.")
    as_bytes = settings.task == "text" and settings.options.get("encoding") == "bytes"
    model = SymbolModel(settings.network.network().cells(), len(alphabet))
    if prompt is None:
        prompt = "\n" if "\n" in alphabet else alphabet[0]
    symbols = prompt.encode().decode("latin-1") if as_bytes else prompt
    strange = sorted(set(symbols) - set(alphabet))
    if strange:
        raise SettingError(
            f"{call} --prompt: expected symbols of the model's alphabet {alphabet!r}, got "
            f"{strange[0]!r}."
        )
    arrays = found.snapshot.arrays
    drawn = draw_symbols(
        model,
        unflatten(arrays, "params"),
        unflatten(arrays, "state"),
        [alphabet.index(symbol) for symbol in symbols],
        count=length,
        temperature=temperature,
        seed=seed,
    )
    written = "".join(alphabet[number] for number in drawn)
    if as_bytes:
        written = written.encode("latin-1").decode("utf-8", "replace")
    # console.print drops control characters, and so prints fewer symbols.
    console.file.write(prompt.lstrip("\n") + written + "\n")
