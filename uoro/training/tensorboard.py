"""Scalars for TensorBoard, for those who look there."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from uoro.errors import MissingFrameworkError


class TensorBoardWriter:
    """Write scalars by name and step into a folder that TensorBoard reads.

    Args:
        folder: Where to; made if it is missing.

    Raises:
        MissingFrameworkError: If tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise MissingFrameworkError(
                f"TensorBoardWriter({os.fspath(folder)!r}): the module '{error.name}' is not "
                "installed. Try: pip install 'uoro[tensorboard]'."
            ) from error
        self._writer: Any = SummaryWriter(os.fspath(folder))

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write the numbers of a step; what is no finite number is left out."""
        for name, value in scalars.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and math.isfinite(value):
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Bring everything to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Bring everything to the file, and write no more."""
        self._writer.close()

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
