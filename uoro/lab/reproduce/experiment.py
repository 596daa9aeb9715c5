"""The protocol of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from uoro.lab.jobs import Job, Results
from uoro.lab.reproduce.claims import Claim
from uoro.lab.reproduce.plan import ReproductionPlan


class Experiment(Protocol):
    """A figure or a table of the paper, or a statement in its text.

    Attributes:
        name: Name, as on the command line.
        title: One line.
        paper: Result of the paper, in our words, with its numbers.
        ours: Method here, with the differences.
    """

    name: str
    title: str
    paper: str
    ours: str

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        """Return the jobs of the experiment."""
        ...

    def claims(self, results: Results) -> list[Claim]:
        """Judge each claim by the results so far."""
        ...

    def draw(self, results: Results, path: Path) -> None:
        """Draw the figure, as a PNG."""
        ...

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Return the numbers as rows of cells, the heading first; empty without a table."""
        ...
