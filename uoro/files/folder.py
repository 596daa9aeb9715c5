"""The folder that results are written to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from uoro.errors import SettingError


def require_folder(command: str, out: Path) -> None:
    """Create the folder for results, before anything is computed.

    Raises:
        SettingError: If nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise SettingError(
            f"{command} --out {out}: expected a folder that can be written to, got: "
            f"{error.strerror}. Try another --out."
        ) from error
