"""``uoro sample``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from uoro.checkpoint.folder import Checkpoints
from uoro.errors import CheckpointError, SettingError
from uoro.models import SymbolModel
from uoro.tasks.symbols import symbol_model
from uoro.training import sample, unflatten
from uoro.training.run import CHECKPOINTS
from uoro.training.settings import SETTINGS, Settings, read_settings


def run_sample(
    console: Console,
    folder: Path,
    *,
    length: int,
    temperature: float,
    prompt: str | None,
    seed: int,
) -> None:
    """Print what the newest checkpoint of a run writes by itself."""
    call = f"sample {folder}"
    if not (folder / SETTINGS).exists():
        raise SettingError(f"{call}: there is no run in this folder, as it has no {SETTINGS}.")
    settings = Settings.of(read_settings(folder / SETTINGS), call=call)
    found = Checkpoints(folder / CHECKPOINTS).latest()
    if found is None:
        raise CheckpointError(f"{call}: the run has written no checkpoint yet.")
    alphabet = found.snapshot.document.get("alphabet")
    if not isinstance(alphabet, str):
        raise SettingError(f"{call}: '{settings.task}' is no task of symbols.")
    as_bytes = settings.task == "text" and settings.options.get("encoding") == "bytes"
    model: SymbolModel = symbol_model(call, settings.network, len(alphabet))
    if prompt is None:
        prompt = "\n" if "\n" in alphabet else alphabet[0]
    symbols = prompt.encode().decode("latin-1") if as_bytes else prompt
    strange = sorted(set(symbols) - set(alphabet))
    if strange:
        raise SettingError(
            f"{call} --prompt: {strange[0]!r} is not in the model's alphabet {alphabet!r}."
        )
    arrays = found.snapshot.arrays
    drawn = sample(
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
    # Not console.print, which leaves out what moves a cursor, and so prints fewer characters.
    console.file.write(prompt.lstrip("\n") + written + "\n")
