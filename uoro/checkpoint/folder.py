"""The checkpoints of one run: keep the last few, and find the newest whole one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from uoro.arguments import require_count
from uoro.checkpoint.file import read_checkpoint, write_checkpoint
from uoro.checkpoint.snapshot import Snapshot
from uoro.errors import CheckpointError, SettingError
from uoro.files.atomic import leftovers
from uoro.learning.log import LOGGER

_NAME = re.compile(r"step-([0-9]{12,})\.safetensors")
# How often to look again where a run at work removes what is about to be read.
_LOOKS = 5


class Damaged(NamedTuple):
    """A checkpoint that was not used, and the reason."""

    path: Path
    error: CheckpointError


class Found(NamedTuple):
    """The newest checkpoint that is whole.

    Attributes:
        snapshot: Arrays and document.
        path: File.
        damaged: Newer checkpoints that could not be used, newest first.
    """

    snapshot: Snapshot
    path: Path
    damaged: list[Damaged]


class Checkpoints:
    """A folder of checkpoints named by their step, ``step-000000012345.safetensors``.

    Opening the folder removes the partial files of writers that were killed. Files of other names
    stay.

    Args:
        folder: Folder; created when the first checkpoint is saved.
        keep: Number of checkpoints to keep, an integer >= 1, default 3.

    Raises:
        SettingError: If ``keep`` is less than 1.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        self.folder = Path(folder)
        self.keep = require_count(f"Checkpoints(keep={keep!r})", "number to keep", keep)
        try:
            for path in leftovers(self.folder, _NAME):
                _remove(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreadable(error) from error

    def paths(self) -> list[Path]:
        """Return the checkpoints, whole or not, oldest first; none if there is no folder.

        Raises:
            CheckpointError: If the folder cannot be read.
        """
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(error) from error
        steps = sorted((_step(name), name) for name in names if _step(name) is not None)
        return [self.folder / name for _, name in steps]

    def save(self, step: int, snapshot: Snapshot) -> Path:
        """Write a checkpoint, and remove those beyond the number to keep.

        The new checkpoint stays. Of the others, checkpoints of later steps are removed first,
        because the run was resumed before them; then the oldest. A checkpoint that cannot be
        removed is logged and stays.

        Args:
            step: Step, which names the file; a file of that step is replaced.
            snapshot: Arrays and document.

        Returns:
            The path of the file.

        Raises:
            SettingError: If the step is negative.
            StructureError: If the snapshot holds what cannot be written.
            CheckpointError: If it cannot be written; nothing has changed then.
        """
        if step < 0:
            raise SettingError(f"Checkpoints.save(step={step}): the step must be at least 0.")
        path = self.folder / f"step-{step:012d}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"Checkpoints.save({step}): the folder {str(self.folder)!r} cannot be made: "
                f"{error.strerror or error}. Give another one."
            ) from error
        write_checkpoint(path, snapshot)
        present = self.paths()
        others = [other for other in present if other != path]
        earlier = [other for other in others if (_step(other.name) or 0) < step]
        later = others[len(earlier) :]
        for other in (later + earlier)[: max(0, len(present) - self.keep)]:
            _remove(other)
        return path

    def latest(self) -> Found | None:
        """Read the newest checkpoint that is whole.

        Each newer one that is not is logged as a warning.

        Returns:
            It, its path, and what is wrong with newer ones; None if there is no checkpoint.

        Raises:
            CheckpointError: If there are some, and none is whole.
        """
        damaged: list[Damaged] = []
        for _ in range(_LOOKS):
            damaged = []
            vanished = False
            for path in reversed(self.paths()):
                try:
                    found = Found(read_checkpoint(path), path, damaged)
                except CheckpointError as error:
                    vanished = vanished or isinstance(error.__cause__, FileNotFoundError)
                    damaged.append(Damaged(path, error))
                else:
                    for skipped in damaged:
                        LOGGER.warning("%s Using %s instead.", skipped.error, path.name)
                    return found
            if not vanished:
                break
        if not damaged:
            return None
        reasons = "\n".join(f"  {skipped.error}" for skipped in damaged)
        raise CheckpointError(
            f"Checkpoints({str(self.folder)!r}).latest(): none of {len(damaged)} checkpoints is "
            f"whole. Restore one from elsewhere, or move them away to start anew.\n{reasons}"
        )

    def _unreadable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"Checkpoints({str(self.folder)!r}): the folder cannot be read: "
            f"{error.strerror or error}. Give the folder of a run's checkpoints."
        )


def _step(name: str) -> int | None:
    """Read the step from a name as `Checkpoints.save` spells it."""
    matched = _NAME.fullmatch(name)
    if matched is None or name != f"step-{int(matched[1]):012d}.safetensors":
        return None
    return int(matched[1])


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        LOGGER.warning("%s cannot be removed: %s. It stays.", path, error.strerror or error)
