"""The results of an experiment on disk: every run with its settings, and the claims."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uoro.errors import ReproductionError
from uoro.experiments.record import versions, write_document
from uoro.reproduction.experiment import Experiment
from uoro.reproduction.run import Done, Results, Run, Settings

FORMAT = 1


class Document:
    """One experiment's JSON file; runs that it holds are not made again.

    Args:
        path: The file; it need not exist.
        experiment: What it is of.
        runs: The runs that are wanted now. Of what the file holds, those count whose settings
            are the same but for the seeds; the rest is dropped when the file is written.

    Raises:
        ReproductionError: If the file is there and cannot be read.
    """

    def __init__(self, path: Path, experiment: Experiment, runs: list[Run]) -> None:
        self.path = path
        self.experiment = experiment
        self._runs = runs
        self._versions: dict[str, str] = {}
        self._held = read_runs(path) if path.exists() else {}

    @property
    def missing(self) -> list[Run]:
        """The runs that are still to be made."""
        return [
            run
            for run in self._runs
            if run.id not in self._held or self._held[run.id].settings != run.settings
        ]

    @property
    def results(self) -> Results:
        """What is there of the wanted runs, in their order, and other seeds of the same."""
        missing = {run.id for run in self.missing}
        found = {run.id: self._held[run.id] for run in self._runs if run.id not in missing}
        kinds = [_without_seeds(run.settings) for run in self._runs]
        more = {
            id: done
            for id, done in self._held.items()
            if id not in found and id not in missing and _without_seeds(done.settings) in kinds
        }
        return found | more

    def add(self, run: Run, done: Done) -> None:
        """Keep a run, on disk too."""
        self._held[run.id] = done
        self.write()

    def write(self) -> None:
        """Write the file anew, with the claims as they stand."""
        results = self.results
        backends = sorted({done.settings["backend"] for done in results.values()})
        document: dict[str, Any] = {
            "format": FORMAT,
            "experiment": self.experiment.name,
            "title": self.experiment.title,
            "complete": not self.missing,
            "versions": versions(["uoro", "numpy", *backends]),
            "machine": {
                "architecture": platform.machine(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
            },
            "seconds": round(sum(done.seconds for done in results.values()), 1),
            "claims": [asdict(claim) for claim in self.experiment.claims(results)],
            "runs": {id: asdict(done) for id, done in results.items()},
        }
        write_document(self.path, document)


def _without_seeds(settings: Settings) -> Settings:
    return {name: value for name, value in settings.items() if name not in ("seed", "seeds")}


def read_runs(path: Path) -> Results:
    """Read the runs of a file.

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
        return {
            id: Done(run["settings"], run["result"], run["seconds"])
            for id, run in document["runs"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReproductionError(
            f"reproduce: {path} cannot be read as results ({type(error).__name__}: {error}). "
            "Move it away, or give another --out."
        ) from error
