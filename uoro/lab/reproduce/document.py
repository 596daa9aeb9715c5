"""The results of an experiment on disk: every job with its settings, and the claims."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uoro.arguments import require_path
from uoro.errors import ReproductionError
from uoro.lab.jobs import Done, Job, JobSettings, Results
from uoro.lab.jobs.saved import HINT, ResultsFormat
from uoro.lab.reproduce.claims import Claim, settled
from uoro.lab.reproduce.experiment import Experiment


def _rename(run: dict[str, Any]) -> None:
    """Rename what format 2 called a rate."""
    for settings in (run["settings"].get("arguments"), run["result"].get("task_settings")):
        if settings and "rate" in settings:
            settings["learning_rate"] = settings.pop("rate")


FORMAT = ResultsFormat("reproduce", 3, "runs", _rename)


class Document:
    """The JSON file of one experiment; jobs that the file holds are not run again.

    Args:
        path: The file; it need not exist.
        experiment: The experiment.
        runs: The jobs that are wanted now.

    Raises:
        SettingError: If ``path`` is no path.
        ReproductionError: If the file cannot be read, or holds jobs with other settings, which
            would be lost.
    """

    def __init__(self, path: Path, experiment: Experiment, runs: list[Job]) -> None:
        self.path = path = require_path("Document(path, …)", "path", path)
        self.experiment = experiment
        self._runs = runs
        self.results: Results = FORMAT.read(path)[0] if os.path.exists(path) else {}
        known = [without_seeds(run.settings) for run in runs]
        for id, done in self.results.items():
            if without_seeds(done.settings) not in known:
                raise ReproductionError(
                    f"reproduce: {path}: expected runs with the settings wanted now, got '{id}' "
                    f"with other settings, of another scale, backend or version. {HINT}"
                )

    @property
    def missing(self) -> list[Job]:
        """The jobs that are still to be run."""
        held = [done.settings for done in self.results.values()]
        return [run for run in self._runs if not any(covers(one, run.settings) for one in held)]

    @property
    def claims(self) -> list[Claim]:
        """The claims, judged by the jobs done so far."""
        wanted = len(self._runs)
        found = self.experiment.claims(self.results)
        return settled(found, wanted - len(self.missing), wanted)

    def add(self, run: Job, done: Done) -> None:
        """Keep a job, on disk too."""
        self.results[run.id] = done
        self.write()

    def write(self) -> None:
        """Write the file, with the claims judged by the jobs done so far.

        Raises:
            ReproductionError: If the file cannot be written; the file before stays as it is.
        """
        FORMAT.write(
            self.path,
            self.results,
            experiment=self.experiment.name,
            title=self.experiment.title,
            wanted=len(self._runs),
            missing=[run.id for run in self.missing],
            claims=[asdict(claim) for claim in self.claims],
        )


def read_document(path: Path) -> tuple[Results, int]:
    """Return the jobs of a file, and how many are missing.

    Raises:
        ReproductionError: If the file cannot be read, or holds no results.
    """
    results, document = FORMAT.read(path)
    return results, len(document.get("missing", ()))


def without_seeds(settings: JobSettings) -> JobSettings:
    """Return the settings that do not depend on the seeds."""
    return {name: value for name, value in settings.items() if name not in ("seed", "seeds")}


def covers(done: JobSettings, wanted: JobSettings) -> bool:
    """Return whether a job done gives all that another job would."""
    return (
        without_seeds(done) == without_seeds(wanted)
        and done.get("seed") == wanted.get("seed")
        and set(wanted.get("seeds", ())) <= set(done.get("seeds", ()))
    )
