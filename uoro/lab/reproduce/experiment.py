"""What an experiment is."""

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
        name: As on the command line.
        title: One line.
        paper: What the paper shows, in our words, with its numbers.
        ours: How it was done here, and where that differs.
    """

    name: str
    title: str
    paper: str
    ours: str

    def runs(self, plan: ReproductionPlan) -> list[Job]:
        """List the runs it takes."""
        ...

    def claims(self, results: Results) -> list[Claim]:
        """Judge each claim by what was measured; by whatever runs there are."""
        ...

    def draw(self, results: Results, path: Path) -> None:
        """Write the figure as a PNG."""
        ...

    def table(self, results: Results) -> Sequence[Sequence[str]]:
        """Give the numbers as rows of cells, the heading first; empty if there is no table."""
        ...
