"""The results of an experiment on disk: every run with its settings, and the claims."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uoro.arguments import require_path
from uoro.errors import ReproductionError
from uoro.files.results import write_document
from uoro.lab.jobs.run import Done, Results, Run, covers, without_seeds
from uoro.lab.reproduce.claims import Claim, settled
from uoro.lab.reproduce.experiment import Experiment

FORMAT = 2


class Document:
    """One experiment's JSON file; runs that it holds are not made again.

    Args:
        path: The file; it need not exist.
        experiment: What it is of.
        runs: The runs that are wanted now.

    Raises:
        SettingError: If the path is none.
        ReproductionError: If the file is there and cannot be read, or holds runs with other
            settings, which would be lost.
    """

    def __init__(self, path: Path, experiment: Experiment, runs: list[Run]) -> None:
        self.path = path = require_path("Document(path, …)", "path", path)
        self.experiment = experiment
        self._runs = runs
        self.results: Results = read_document(path)[0] if os.path.exists(path) else {}
        kinds = [without_seeds(run.settings) for run in runs]
        for id, done in self.results.items():
            if without_seeds(done.settings) not in kinds:
                raise ReproductionError(
                    f"reproduce: {path} holds '{id}' with other settings than are wanted now, of "
                    "another scale, backend or version. Give another --out, or move the file away."
                )

    @property
    def missing(self) -> list[Run]:
        """The runs that are still to be made."""
        held = [done.settings for done in self.results.values()]
        return [run for run in self._runs if not any(covers(one, run.settings) for one in held)]

    @property
    def claims(self) -> list[Claim]:
        """The claims as they stand."""
        wanted = len(self._runs)
        found = self.experiment.claims(self.results)
        return settled(found, wanted - len(self.missing), wanted)

    def add(self, run: Run, done: Done) -> None:
        """Keep a run, on disk too."""
        self.results[run.id] = done
        self.write()

    def write(self) -> None:
        """Write the file anew, with the claims as they stand.

        Raises:
            ReproductionError: If it cannot be written; the file that was there is as it was.
        """
        document: dict[str, Any] = {
            "format": FORMAT,
            "experiment": self.experiment.name,
            "title": self.experiment.title,
            "wanted": len(self._runs),
            "missing": [run.id for run in self.missing],
            "claims": [asdict(claim) for claim in self.claims],
            "runs": {id: asdict(done) for id, done in self.results.items()},
        }
        try:
            write_document(self.path, document)
        except OSError as error:
            raise ReproductionError(
                f"reproduce: {self.path} cannot be written: {error.strerror}. What was written "
                "before is as it was."
            ) from error


def read_document(path: Path) -> tuple[Results, int]:
    """Read the runs of a file, and how many are missing.

    Raises:
        ReproductionError: If it cannot be read, or is not such a file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ReproductionError(
                f"reproduce: {path} has format {document['format']}, wanted is {FORMAT}. Move it "
                "away, or give another --out."
            )
        results = {
            id: Done(run["settings"], _numbers(run["result"]), run["seconds"], run["made"])
            for id, run in document["runs"].items()
        }
        return results, len(document["missing"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReproductionError(
            f"reproduce: {path} cannot be read as results ({type(error).__name__}: {error}). "
            "Move it away, or give another --out."
        ) from error


def _numbers(value: Any) -> Any:
    """Turn the strings that stand for infinities and NaN back into numbers."""
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value
