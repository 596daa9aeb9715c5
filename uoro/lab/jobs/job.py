"""A job, the smallest piece of work that is kept: its settings determine its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

JobSettings: TypeAlias = dict[str, Any]
"""What determines the numbers of a job, in values that JSON knows."""

Report: TypeAlias = Callable[[float], None]
"""Called with the fraction of a job that is done."""


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        id: Name of the job, readable, unique within its document.
        kind: Key of the function that does the work, in the ``kinds`` of `uoro.lab.jobs.execute`.
        settings: What determines the numbers; ``settings["backend"]`` names the backend.
        cost: Rough guess of the duration, in seconds on one core.
    """

    id: str
    kind: str
    settings: JobSettings
    cost: float


@dataclass(frozen=True)
class Done:
    """A finished job.

    Attributes:
        settings: Settings of the job.
        result: What the function of its kind returned.
        seconds: Duration.
        made: Versions of the libraries, and the machine.
    """

    settings: JobSettings
    result: dict[str, Any]
    seconds: float
    made: dict[str, Any] = field(default_factory=dict)


Results: TypeAlias = dict[str, Done]
"""Finished jobs by their ids."""
