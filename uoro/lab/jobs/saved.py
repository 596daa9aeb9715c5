"""The results of jobs on disk: one JSON file, read with its format number, written whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uoro.errors import ReproductionError
from uoro.files.numbers import floats
from uoro.files.results import write_document
from uoro.lab.jobs.job import Done, Results

HINT = "Move the file away, or give another --out."


@dataclass(frozen=True)
class ResultsFormat:
    """The JSON format of one command's results.

    Attributes:
        command: Name of the command, for errors.
        number: Number of the format that is written; files of the number before are converted.
        key: Key of the jobs in the document.
        convert: Changes one job of the number before, in place.
    """

    command: str
    number: int
    key: str
    convert: Callable[[dict[str, Any]], None]

    def read(self, path: Path) -> tuple[Results, dict[str, Any]]:
        """Return the jobs of a file by id, and the whole document.

        Raises:
            ReproductionError: If the file cannot be read, or has another format.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            found = document["format"]
            if found not in (self.number, self.number - 1):
                raise ReproductionError(
                    f"{self.command}: {path}: expected format {self.number}, got {found}. {HINT}"
                )
            results = {}
            for id, job in document[self.key].items():
                if found < self.number:
                    self.convert(job)
                results[id] = Done(**(job | {"result": floats(job["result"])}))
            return results, document
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReproductionError(
                f"{self.command}: {path}: expected results as JSON, got "
                f"{type(error).__name__}: {error}. {HINT}"
            ) from error

    def write(self, path: Path, results: Results, **facts: Any) -> None:
        """Write results, with facts about them, in the place of the file.

        Raises:
            ReproductionError: If the file cannot be written; the file before stays as it is.
        """
        jobs = {id: asdict(done) for id, done in results.items()}
        try:
            write_document(path, {"format": self.number, **facts, self.key: jobs})
        except OSError as error:
            raise ReproductionError(
                f"{self.command}: {path}: expected a file that can be written, got: "
                f"{error.strerror}. The file before stays as it is; give another --out."
            ) from error
