"""The same task, numbers, stream and signs on several backends and estimators, side by side."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from uoro.arguments import require_kind
from uoro.backend import Backend
from uoro.derivatives.unroll import unroll
from uoro.errors import NonFiniteError
from uoro.estimators.spelling import Choice
from uoro.lab.compare.comparison import Compared, Comparison
from uoro.lab.compare.curve import RECENT, Curve
from uoro.learning.carry import Metrics
from uoro.learning.host_noise import SharedNoise, map_host
from uoro.learning.learner import Learner
from uoro.learning.windows import Windows
from uoro.tasks import Task
from uoro.training.scores import Scores
from uoro.training.tap import Tap

EARLY = 8
INTERRUPTED = "interrupted"
EAGER_CHUNK = 50
LONGEST = 1000
"""Largest number of updates between two looks at a learner."""
PROBES_PER_DECADE = 8

Gradient = list[Any]
"""Leaves of a gradient, on the host."""

OnItems = Callable[[int, float], None]
"""Called with the number of items so far and the recent loss."""


def compare(
    plan: Comparison, progress: Callable[[Backend, Choice, int], OnItems]
) -> Iterator[Compared]:
    """Run every estimator on every backend, one after the other.

    Args:
        plan: Comparison.
        progress: Called at the start of each run with backend, estimator and number of items;
            returns a function to call along the run.

    Yields:
        Each run when it is done.

    Raises:
        SettingError: If ``plan`` is no comparison.
        KeyboardInterrupt: On Ctrl-C, after the interrupted run has been yielded.
    """
    require_kind("compare(plan, progress)", "plan", plan, Comparison, "a Comparison")
    references: dict[tuple[str, int], dict[int, Gradient]] = {}
    for backend in plan.backends:
        for choice in plan.choices:
            span = plan.span(backend, choice)
            items = plan.items(backend) // span * span
            cell, gradients = _run(plan, backend, choice, span, progress(backend, choice, items))
            if backend is plan.backends[0]:
                references[choice.name, span] = gradients
            else:
                differences = _differences(gradients, references.get((choice.name, span), {}))
                cell = replace(
                    cell,
                    deviation=float(np.max(differences)) if differences else None,
                    compared=len(differences),
                )
            if cell.items or cell.verdict == "diverged":
                yield cell
            if cell.note == INTERRUPTED:
                raise KeyboardInterrupt


def _run(
    plan: Comparison, backend: Backend, choice: Choice, span: int, progress: OnItems
) -> tuple[Compared, dict[int, Gradient]]:
    """Run one estimator on one backend; keep gradients at logarithmically spaced updates."""
    task, asked = plan.task, plan.items(backend)
    updates = asked // span
    curve = Curve(span=span, scale=task.loss_scale)
    gradients: dict[int, Gradient] = {}
    rates: list[float] = []
    compiled: set[int] = set()
    note = ""
    failed = False

    # A loss that is not finite is reported; warnings of NumPy are not needed.
    with backend.precision(plan.dtype), np.errstate(over="ignore", invalid="ignore"):
        learner = _learner(plan, backend, choice, span)
        items, scores = task.stream(plan.seed), None
        stream: Any = Windows(backend, items, span) if span > 1 else items
        if task.forecast is not None:
            stream = Tap(backend, items, span, dtype=plan.dtype)
            scores = Scores(task.forecast, RECENT)

        def report(metrics: Metrics) -> None:
            losses = metrics.losses
            if scores is not None:
                losses = scores.take(backend, learner.carry, len(losses) * span, span)
            curve.add(losses)
            progress(curve.items, curve.recent)

        try:
            for count in _stretches(updates, span):
                if count == 1:
                    before = learner.steps
                    estimate = learner.step(next(stream))
                    report(Metrics(before, [float(estimate.loss)]))
                    if before < EARLY or before >= 10 ** (1 / PROBES_PER_DECADE) * max(gradients):
                        host = backend.named_leaves(backend.to_host(estimate.gradient))
                        gradients[before] = [np.asarray(leaf) for _, leaf in host]
                    continue
                start = time.perf_counter()
                chunk = count if backend.compiled else EAGER_CHUNK
                learner.run(stream, count, chunk=chunk, report=report)
                if count in compiled or not backend.compiled:
                    rates.append(count * span / (time.perf_counter() - start))
                compiled.add(count)
        except NonFiniteError as error:
            failed = True
            note = f"not finite at item {(error.step or 0) * span:,}"
        except StopIteration:
            note = "the stream has ended"
        except KeyboardInterrupt:
            note = INTERRUPTED

    cell = Compared(
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
        items_per_second=statistics.median(rates) if rates else None,
        deviation=None,
        compared=0,
        curve=curve.finished(),
        persistence=None if scores is None else scores.persistence,
        errors={} if scores is None else scores.recent(),
    )
    return cell, gradients


def _stretches(updates: int, span: int) -> Iterator[int]:
    """Cut a run into single updates, whose gradients are compared, and stretches between them.

    The cuts are equal on every backend, and of few lengths, as each length is compiled.
    """
    done = 0
    while done < updates:
        yield 1
        done += 1
        if EARLY <= done < updates:
            items = 100 if done * span < 1000 else LONGEST
            count = min(max(2, items // span), updates - done)
            yield count
            done += count


def _learner(plan: Comparison, backend: Backend, choice: Choice, span: int) -> Learner:
    """Build a learner that starts from equal bits on every backend, with signs from NumPy."""
    params, state = plan.task.model.init(np.random.default_rng(plan.seed))
    state = map_host(lambda leaf: leaf.astype(_like(leaf, plan.dtype)), state)
    signs = SharedNoise(choice.estimator.draw, state, plan.seed)
    dynamics, estimator = plan.task.dynamics(backend), choice.estimator
    if plan.task.forecast is not None:
        estimator = plan.task.forecast.judged(estimator, LONGEST * span)
    return Learner(
        unroll(dynamics, span) if span > 1 else dynamics,
        estimator,
        plan.task.optimizer,
        backend.from_host(params, dtype=plan.dtype),
        backend.from_host(state),
        seed=plan.seed,
        signs=signs if signs.used else None,
    )


def _like(leaf: Any, dtype: str) -> Any:
    """Return the dtype of a precision for real numbers, or for complex ones."""
    return np.result_type(dtype, np.complex64) if np.iscomplexobj(leaf) else np.dtype(dtype)


def _differences(mine: dict[int, Gradient], theirs: dict[int, Gradient]) -> list[float]:
    """Return the relative differences of gradients, at the updates of both runs."""
    differences = []
    for step in mine.keys() & theirs.keys():
        a, b = mine[step], theirs[step]
        gap = math.sqrt(sum(float(np.sum((x - y) ** 2)) for x, y in zip(a, b, strict=True)))
        size = math.sqrt(sum(float(np.sum(y**2)) for y in b))
        differences.append(gap / size if size else float(gap > 0))
    return differences


def _verdict(task: Task, curve: Curve) -> str:
    """Return the verdict on a run, by its recent loss."""
    if task.solved_below is not None and curve.recent < task.solved_below:
        return "converged"
    if not curve.points:
        return "undecided"
    start, recent = curve.points[0].loss, curve.recent
    if recent <= start * 1.01:
        return "learning" if recent < 0.95 * start else "flat"
    # Above where it began: on its way up, or coming back from an excursion?
    highest = max(point.loss for point in curve.points)
    return "undecided" if recent < 0.9 * highest else "diverged"
