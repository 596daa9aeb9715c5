"""Where results go."""

from __future__ import annotations

import tempfile
from pathlib import Path

from uoro.errors import SettingError


def require_folder(command: str, out: Path) -> None:
    """Make the folder for the results, before anything is computed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise SettingError(
            f"{command} --out {out}: nothing can be written there: {error.strerror}."
        ) from error
