"""The timings on disk: a group is written when it is done, and not timed again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from uoro.arguments import require_path
from uoro.errors import ReproductionError
from uoro.lab.jobs import Done, Job, Results
from uoro.lab.jobs.saved import HINT, ResultsFormat


def _rename(group: dict[str, Any]) -> None:
    """Rename what format 1 called a floor and rates."""
    for row in group["result"]["rows"].values():
        if "floor" in row:
            row["roofline"] = {
                name.replace("_rate", "_throughput"): value
                for name, value in row.pop("floor").items()
            }


FORMAT = ResultsFormat("bench", 2, "groups", _rename)


class BenchDocument:
    """The JSON file of ``uoro bench``.

    Args:
        path: The file; it need not exist.
        groups: The groups that are wanted now.

    Raises:
        SettingError: If ``path`` is no path.
        ReproductionError: If the file cannot be read, or holds a group of the same name with
            other settings.
    """

    def __init__(self, path: Path, groups: list[Job]) -> None:
        self.path = path = require_path("BenchDocument(path, groups)", "path", path)
        self.results: Results = FORMAT.read(path)[0] if os.path.exists(path) else {}
        for group in groups:
            held = self.results.get(group.id)
            if held is not None and held.settings != group.settings:
                differ = [k for k, v in group.settings.items() if held.settings.get(k) != v]
                raise ReproductionError(
                    f"bench: {path}: expected '{group.id}' timed with the settings given, got "
                    f"another {' and '.join(differ)}. {HINT}"
                )
        self.missing = [group for group in groups if group.id not in self.results]

    def add(self, group: Job, done: Done) -> None:
        """Keep a group, on disk too.

        Raises:
            ReproductionError: If the file cannot be written; the file before stays as it is.
        """
        self.results[group.id] = done
        self.missing = [one for one in self.missing if one.id != group.id]
        FORMAT.write(self.path, self.results)
