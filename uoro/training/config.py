"""``config.toml``: the complete settings of a run, in its folder."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from uoro.errors import CheckpointError, SettingError, UOROError
from uoro.files.atomic import sync_folder, write_atomically
from uoro.training.settings import Settings, require_writable

SETTINGS = "config.toml"


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file of settings; keys of version 0.1 are renamed.

    Raises:
        SettingError: If the file cannot be read or is no TOML.
    """
    call = f"read_settings({os.fspath(path)!r})"
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        require_writable(call, table)
    except UOROError:
        raise
    except OSError as error:
        raise SettingError(f"{call}: it cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{call}: expected TOML, got a file that is not: {error}.") from error
    return renewed(table)


def renewed(table: dict[str, Any]) -> dict[str, Any]:
    """Rename the learning rate of an optimizer, called ``rate`` in files of version 0.1."""
    optimizer = table.get("optimizer")
    if not isinstance(optimizer, dict) or "rate" not in optimizer:
        return table
    if ":" in str(optimizer.get("name")):  # The argument of a user's function keeps its name.
        return table
    names = {"rate": "learning_rate"}
    return table | {"optimizer": {names.get(one, one): value for one, value in optimizer.items()}}


def settings_of(folder: Path, *, call: str) -> Settings:
    """Read the settings of a run.

    Args:
        folder: Folder of the run.
        call: Call to name in errors.

    Raises:
        SettingError: If there is no run in the folder, or its settings are damaged.
    """
    if not (folder / SETTINGS).exists():
        raise SettingError(
            f"{call}: there is no run in this folder, as it has no {SETTINGS}. Give the folder of "
            "a run."
        )
    return Settings.of(read_settings(folder / SETTINGS), call=call)


def write_settings(folder: Path, settings: Settings) -> None:
    """Write the complete settings into a run's folder, whole or not at all.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    try:
        written = tomli_w.dumps(settings.table()).encode()
        write_atomically(folder / SETTINGS, [written])
        sync_folder(folder)
    except OSError as error:
        raise CheckpointError(
            f"train: {folder / SETTINGS} cannot be written: {error.strerror or error}. Make room, "
            "or give another folder."
        ) from error
