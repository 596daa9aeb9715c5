"""The folder that results are written to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from uoro.errors import SettingError


def require_folder(command: str, out: Path, option: str = "--out") -> None:
    """Create the folder for results, before anything is computed.

    Args:
        command: Command to name in errors.
        out: Folder.
        option: Option that named it.

    Raises:
        SettingError: If nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise SettingError(
            f"{command} {option} {out}: expected a folder that can be written to, got: "
            f"{error.strerror}. Try another {option}."
        ) from error
