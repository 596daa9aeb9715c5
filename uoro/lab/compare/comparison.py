"""A comparison, its results, and both as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uoro.arguments import (
    mismatch,
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
    """Result of one estimator on one backend.

    Attributes:
        backend: Name of the backend.
        device: Device.
        estimator: Estimator, as spelled.
        asked: Number of items of the comparison.
        items: Number of items done; fewer on eager backends, after a failure, or for a remainder.
        first_loss: Loss of the first update, per item.
        final_loss: Loss of the last update, per item.
        recent_loss: Mean over the last thousand items, or the last tenth of a shorter run.
        verdict: ``"converged"``, the recent loss is below what solves the task; ``"learning"``,
            it is 5 % or more below the first; ``"diverged"``, it is above the first and near its
            worst, or not finite; ``"undecided"``, it is above the first and falling; ``"flat"``.
        note: Remark.
        items_per_second: Throughput, median over chunks without those that compile; ``None`` if
            every chunk compiles.
        deviation: Largest relative difference of the gradients from those of the reference
            backend; ``None`` for the reference itself.
        compared: Number of updates compared.
        curve: Mean losses along the run.
        persistence: Recent loss of the last known value, where the task predicts ahead of time.
        errors: By target, the recent error of the predictions and of the last known value: roots of
            the mean squares, in the target's unit.
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
    persistence: float | None = None
    errors: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What to compare: estimators on backends, on the same task, stream, numbers and signs.

    Attributes:
        task: Task.
        backends: Backends; the first is the reference.
        choices: Estimators.
        steps: Number of items of each run.
        eager_steps: Largest number of items where Python runs each step.
        seed: Seed of the initial numbers and the signs.
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
                    mismatch("compare", what, "a list of at least one", spelled(kept))
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
                    least = f"{choice.span} items or more, for one update of '{choice.name}'"
                    got = f"{self.items(backend)} on {backend.name}"
                    hint = f"Raise --steps{eager}, or leave '{choice.name}' out of --estimators."
                    raise SettingError(mismatch("compare", "steps", least, got, hint))
        require_choice(f"compare(dtype={spelled(self.dtype)})", "dtype", self.dtype, DTYPES)

    def items(self, backend: Backend) -> int:
        """Return the number of items of a run on a backend."""
        return self.steps if backend.compiled else min(self.steps, self.eager_steps)

    def span(self, backend: Backend, choice: Choice) -> int:
        """Return the number of items of an update; all items for full BPTT."""
        return self.items(backend) if choice.span is None else choice.span

    def record(self) -> dict[str, Any]:
        """Return everything needed to repeat the comparison."""
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
    """Write a comparison and the runs done so far.

    Args:
        path: JSON file to write; its folder is created.
        plan: Comparison.
        cells: Runs done so far.
        complete: Whether all runs are done.

    Raises:
        SettingError: If the file cannot be written, or ``plan`` is no comparison.
    """
    require_kind("write_json(path, plan, …)", "plan", plan, Comparison, "a Comparison")
    path = require_path("write_json(path, …)", "path", path)
    document = plan.record() | {"complete": complete, "cells": [asdict(cell) for cell in cells]}
    try:
        write_document(path, document)
    except (OSError, ValueError) as error:
        call = f"write_json({str(path)!r})"
        raise SettingError(mismatch(call, "", "a writable file", str(error))) from error
