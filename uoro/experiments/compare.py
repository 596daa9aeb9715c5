"""The same task, numbers, stream and signs on several backends and estimators, side by side."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.errors import NonFiniteLossError, SettingError
from uoro.experiments.curve import Curve, Point
from uoro.experiments.naming import Choice
from uoro.host_noise import SharedNoise, map_host
from uoro.learner import Learner, Metrics
from uoro.stream import Windows
from uoro.tasks import Task
from uoro.unroll import unroll

EARLY = 8
EAGER_CHUNK = 50
PROBES_PER_DECADE = 8

Gradient = dict[str, Any]
"""A gradient on the host: leaf name to array."""


@dataclass(frozen=True)
class Cell:
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
        verdict: ``"converged"``, ``"learning"``, ``"flat"`` or ``"diverged"``.
        note: What else there is to say.
        items_per_second: Median over chunks, those that had to be compiled left out; NaN if none
            is left.
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
    items_per_second: float
    deviation: float | None
    compared: int
    curve: list[Point] = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        task: The task.
        backends: The first one is the reference.
        choices: The estimators.
        steps: Items of the stream each run shall consume.
        eager_steps: The same for backends on which Python runs each step.
        seed: Determines the initial numbers and the noise.
        dtype: ``"float32"`` or ``"float64"``.
    """

    task: Task
    backends: list[Backend]
    choices: list[Choice]
    steps: int
    eager_steps: int
    seed: int
    dtype: str

    def __post_init__(self) -> None:
        if self.steps < 1 or self.eager_steps < 1:
            raise SettingError(
                f"compare(steps={self.steps}, eager_steps={self.eager_steps}): wanted are "
                "positive numbers."
            )
        if self.dtype not in ("float32", "float64"):
            raise SettingError(f"compare(dtype={self.dtype!r}): wanted is 'float32' or 'float64'.")

    def items(self, backend: Backend) -> int:
        """How many items a run on this backend shall consume."""
        return self.steps if backend.compiled else min(self.steps, self.eager_steps)

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
            "versions": {name: version(name) for name in ("uoro", "numpy")},
        }


Progress = Callable[[int, float], None]
"""Called with the items done so far and the recent loss."""


def compare(plan: Plan, progress: Callable[[Backend, Choice, int], Progress]) -> Iterator[Cell]:
    """Run every estimator on every backend, one cell after the other.

    Args:
        plan: What to compare.
        progress: Called at the start of each cell with the items it is to consume; what it
            returns is called as they are.

    Yields:
        Each cell when it is done.
    """
    references: dict[str, dict[int, Gradient]] = {}
    for backend in plan.backends:
        for choice in plan.choices:
            items = plan.items(backend)
            span = items if choice.span is None else choice.span
            if span > items:
                raise SettingError(
                    f"compare(steps={items}): '{choice.name}' takes {span} items for one update."
                )
            cell, gradients = _run(plan, backend, choice, span, progress(backend, choice, items))
            if backend is plan.backends[0]:
                references[choice.name] = gradients
            else:
                differences = _differences(gradients, references.get(choice.name, {}))
                cell = replace(
                    cell,
                    deviation=max(differences) if differences else None,
                    compared=len(differences),
                )
            yield cell


def _run(
    plan: Plan, backend: Backend, choice: Choice, span: int, progress: Progress
) -> tuple[Cell, dict[int, Gradient]]:
    """Run one cell, and keep the gradients of some updates, ever rarer."""
    task, asked = plan.task, plan.items(backend)
    updates = asked // span
    curve = Curve(span=span, scale=task.loss_scale)
    gradients: dict[int, Gradient] = {}
    rates: list[float] = []
    compiled: set[int] = set()
    note = ""
    failed = False

    # NumPy would warn of an overflow; a loss that is not finite is found and named anyway.
    with backend.precision(plan.dtype), np.errstate(over="ignore", invalid="ignore"):
        learner = _learner(plan, backend, choice, span)
        stream = Windows(backend, task.stream(), span) if span > 1 else task.stream()

        def report(metrics: Metrics) -> None:
            curve.add(metrics.losses)
            progress(curve.items, curve.recent)

        try:
            for count in _stretches(updates, span):
                if count == 1:
                    before = learner.steps
                    estimate = learner.step(next(stream))
                    report(Metrics(before, [float(estimate.loss)]))
                    if before < EARLY or before >= 10 ** (1 / PROBES_PER_DECADE) * max(gradients):
                        host = backend.named_leaves(backend.to_host(estimate.gradient))
                        gradients[before] = {name: np.asarray(leaf) for name, leaf in host}
                    continue
                start = time.perf_counter()
                chunk = count if backend.compiled else EAGER_CHUNK
                learner.run(stream, count, chunk=chunk, report=report)
                if count in compiled or not backend.compiled:
                    rates.append(count * span / (time.perf_counter() - start))
                compiled.add(count)
        except NonFiniteLossError as error:
            failed = True
            note = f"not finite at item {error.step * span:,}"

    cell = Cell(
        backend=backend.name,
        device=backend.device,
        estimator=choice.name,
        asked=plan.steps,
        items=curve.items,
        first_loss=curve.first,
        final_loss=curve.last,
        recent_loss=curve.recent,
        verdict="diverged" if failed else _verdict(task, curve),
        note=note,
        items_per_second=statistics.median(rates or [math.nan]),
        deviation=None,
        compared=0,
        curve=curve.finished(),
    )
    return cell, gradients


def _stretches(updates: int, span: int) -> Iterator[int]:
    """Cut a run into stretches, each behind a single update whose gradient can be looked at.

    The cuts are the same on every backend, and have few lengths, each of which a compiler has
    to compile.
    """
    done = 0
    while done < updates:
        yield 1
        done += 1
        if EARLY <= done < updates:
            items = 100 if done * span < 1000 else 1000
            count = min(max(2, items // span), updates - done)
            yield count
            done += count


def _learner(plan: Plan, backend: Backend, choice: Choice, span: int) -> Learner:
    """Start from the same bits whatever the backend: numbers and noise come from NumPy."""
    params, state = plan.task.model.init(np.random.default_rng(plan.seed))
    state = map_host(lambda leaf: leaf.astype(plan.dtype), state)
    noise = SharedNoise(choice.estimator.draw, state, plan.seed)
    dynamics = backend.dynamics(partial(plan.task.model.transition, backend.xp))
    return Learner(
        unroll(dynamics, span) if span > 1 else dynamics,
        choice.estimator,
        plan.task.optimizer,
        backend.from_host(params, dtype=plan.dtype),
        backend.from_host(state),
        seed=plan.seed,
        noise=noise if noise.used else None,
    )


def _differences(mine: dict[int, Gradient], theirs: dict[int, Gradient]) -> list[float]:
    """Relative differences, leaves together, at the updates both have."""
    differences = []
    for step in mine.keys() & theirs.keys():
        a, b = mine[step], theirs[step]
        gap = math.sqrt(sum(float(np.sum((a[name] - b[name]) ** 2)) for name in b))
        size = math.sqrt(sum(float(np.sum(b[name] ** 2)) for name in b))
        differences.append(gap / size if size else float(gap > 0))
    return differences


def _verdict(task: Task, curve: Curve) -> str:
    """Judge a run by its recent loss."""
    if task.solved_below is not None and curve.recent < task.solved_below:
        return "converged"
    start = curve.points[0].loss if curve.points else math.nan
    if not curve.recent <= start * 1.01:
        return "diverged"
    return "learning" if curve.recent < 0.95 * start else "flat"


def write_json(path: Path, plan: Plan, cells: list[Cell], *, complete: bool) -> None:
    """Write the plan and the cells done so far.

    Args:
        path: Where to; its folder is made if it is missing.
        plan: What was to be compared.
        cells: What was.
        complete: Whether that is all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    document = plan.record() | {"complete": complete, "cells": [asdict(cell) for cell in cells]}
    path.write_text(json.dumps(_finite(document), indent=1) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    """Replace what JSON cannot say, infinities and NaN, by strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
