"""What a comparison is to do, what came of it, and both as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uoro.arguments import (
    require_choice,
    require_count,
    require_kind,
    require_methods,
    require_path,
    require_seed,
)
from uoro.backend import Backend
from uoro.errors import SettingError, spelled
from uoro.estimators.spelling import Choice
from uoro.files.results import versions, write_document
from uoro.lab.compare.curve import Point
from uoro.tasks import Task

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Compared:
    """One run: a backend, an estimator, and what came of them.

    Attributes:
        backend: Name of the backend.
        device: Where it ran.
        estimator: As it was written.
        asked: Items of the stream the whole comparison asked for.
        items: Items done; fewer on eager backends, or if it failed, or for an odd rest.
        first_loss: Loss of the first update, per item.
        final_loss: Loss of the last update, per item.
        recent_loss: Mean over the last thousand items, or the last tenth of a shorter run.
        verdict: ``"converged"``, the recent loss is below what solves the task; ``"learning"``,
            it is 5 % or more below the first; ``"diverged"``, it is above the first and near its
            worst, or not finite; ``"undecided"``, it is above the first and falling; ``"flat"``.
        note: What else there is to say.
        items_per_second: Median over chunks, those that had to be compiled left out; ``None`` if
            none is left.
        deviation: Largest relative difference of its gradients from the reference backend's
            over the probed updates that both made; ``None`` for the reference itself.
        compared: How many updates that is the largest of.
        curve: Mean losses along the run.
    """

    backend: str
    device: str
    estimator: str
    asked: int
    items: int
    first_loss: float
    final_loss: float
    recent_loss: float
    verdict: str
    note: str
    items_per_second: float | None
    deviation: float | None
    compared: int
    curve: list[Point] = field(repr=False)


@dataclass(frozen=True)
class Comparison:
    """What to compare.

    Attributes:
        task: The task.
        backends: The first one is the reference.
        choices: The estimators.
        steps: Items of the stream each run shall consume.
        eager_steps: The same for backends on which Python runs each step.
        seed: Determines the initial numbers and the noise.
        dtype: ``"float32"`` or ``"float64"``.

    Raises:
        SettingError: If one of them is not what it is to be, a number is out of its range, or a
            run is too short for one update.
    """

    task: Task
    backends: list[Backend]
    choices: list[Choice]
    steps: int
    eager_steps: int
    seed: int
    dtype: str

    def __post_init__(self) -> None:
        require_kind(
            "compare(task=...)", "task", self.task, Task, "a task of uoro.tasks, such as anbn()"
        )
        for what, kept in (("backends", self.backends), ("choices", self.choices)):
            if not isinstance(kept, (list, tuple)) or not kept:
                raise SettingError(
                    f"compare({what}={spelled(kept)}): wanted is a list of at least one."
                )
        for backend in self.backends:
            wanted = "a backend, as load_backend(name) returns"
            require_methods("compare(backends=...)", "backend", backend, ("dynamics",), wanted)
        for choice in self.choices:
            wanted = "a Choice, as parse_estimator(name) returns"
            require_kind("compare(choices=...)", "choice", choice, Choice, wanted)
        for what, items in (("steps", self.steps), ("eager_steps", self.eager_steps)):
            require_count(f"compare({what}={spelled(items)})", what, items)
        require_seed(f"compare(seed={spelled(self.seed)})", self.seed)
        for backend in self.backends:
            for choice in self.choices:
                if self.span(backend, choice) > self.items(backend):
                    eager = "" if backend.compiled else " (or --eager-steps)"
                    raise SettingError(
                        f"compare: '{choice.name}' takes {choice.span} items for one update, and "
                        f"on {backend.name} the run has {self.items(backend)}. Raise --steps"
                        f"{eager}, or leave it out with --estimators."
                    )
        require_choice(f"compare(dtype={spelled(self.dtype)})", "dtype", self.dtype, DTYPES)

    def items(self, backend: Backend) -> int:
        """How many items a run on this backend shall consume."""
        return self.steps if backend.compiled else min(self.steps, self.eager_steps)

    def span(self, backend: Backend, choice: Choice) -> int:
        """How many items one update takes; all of them for full BPTT."""
        return self.items(backend) if choice.span is None else choice.span

    def record(self) -> dict[str, Any]:
        """Everything needed to do it again."""
        return {
            "task": self.task.name,
            "title": self.task.title,
            "settings": self.task.settings,
            "loss": self.task.loss_name,
            "reference": self.backends[0].name,
            "estimators": [choice.name for choice in self.choices],
            "steps": self.steps,
            "eager_steps": self.eager_steps,
            "seed": self.seed,
            "dtype": self.dtype,
            "versions": versions(["uoro", "numpy", *(backend.name for backend in self.backends)]),
        }


def write_json(path: Path, plan: Comparison, cells: list[Compared], *, complete: bool) -> None:
    """Write the plan and the cells done so far.

    Args:
        path: Where to; its folder is made if it is missing.
        plan: What was to be compared.
        cells: What was.
        complete: Whether that is all.

    Raises:
        SettingError: If nothing can be written there, or the plan is none.
    """
    require_kind("write_json(path, plan, …)", "plan", plan, Comparison, "a Comparison")
    path = require_path("write_json(path, …)", "path", path)
    document = plan.record() | {"complete": complete, "cells": [asdict(cell) for cell in cells]}
    try:
        write_document(path, document)
    except (OSError, ValueError) as error:
        raise SettingError(f"write_json({str(path)!r}): it cannot be written: {error}") from error
