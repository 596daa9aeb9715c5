"""The timings on disk: a group is written when it is done, and not timed again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uoro.arguments import require_path
from uoro.errors import ReproductionError
from uoro.files.results import write_document
from uoro.lab.jobs.run import Done, Results, Run

FORMAT = 1
HINT = "Move it away, or give another --out."


class SpeedDocument:
    """The JSON file of ``uoro bench``.

    Args:
        path: The file; it need not exist.
        groups: The groups that are wanted now.

    Raises:
        SettingError: If the path is none.
        ReproductionError: If the file is there and cannot be read, or holds a group of the same
            name with other settings.
    """

    def __init__(self, path: Path, groups: list[Run]) -> None:
        self.path = path = require_path("SpeedDocument(path, groups)", "path", path)
        self.results: Results = _read(path) if os.path.exists(path) else {}
        for group in groups:
            held = self.results.get(group.id)
            if held is not None and held.settings != group.settings:
                differ = [k for k, v in group.settings.items() if held.settings.get(k) != v]
                raise ReproductionError(
                    f"bench: {path} holds '{group.id}' timed with another {' and '.join(differ)}. "
                    f"{HINT}"
                )
        self.missing = [group for group in groups if group.id not in self.results]

    def add(self, group: Run, done: Done) -> None:
        """Keep a group, on disk too.

        Raises:
            ReproductionError: If the file cannot be written; what was there is as it was.
        """
        self.results[group.id] = done
        self.missing = [one for one in self.missing if one.id != group.id]
        document: dict[str, Any] = {
            "format": FORMAT,
            "groups": {id: asdict(one) for id, one in self.results.items()},
        }
        try:
            write_document(self.path, document)
        except OSError as error:
            raise ReproductionError(
                f"bench: {self.path} cannot be written: {error.strerror}. What was written before "
                "is as it was."
            ) from error


def _read(path: Path) -> Results:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ReproductionError(
                f"bench: {path} has format {document['format']}, wanted is {FORMAT}. {HINT}"
            )
        return {id: Done(**group) for id, group in document["groups"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReproductionError(
            f"bench: {path} cannot be read as timings ({type(error).__name__}: {error}). {HINT}"
        ) from error
