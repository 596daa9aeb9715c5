"""Laws of what learns: optimizers by formulas, a learner by its steps, a run, restoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.checkpoint import load_learner, save_learner
from uoro.estimator import Estimator
from uoro.estimators import UORO
from uoro.learning.learner import Learner
from uoro.learning.optimizers import SGD, Adam, Clipped
from uoro_conformance.apparatus import compiled_step
from uoro_conformance.finding import UNIT, Finding, largest, precision_of, relative_gap, worst
from uoro_conformance.signs import Recording
from uoro_conformance.systems import Trial

UPDATES, STEPS, STOP = 40, 45, 17
"""Numbers of updates of an optimizer, of steps of a learner, and the step at which it is saved."""

ROUNDING = {"float64": 1e6, "float32": 1e4}
"""Units of roundoff that add up over so many updates."""

Formula = Callable[[list[Any]], Iterator[Any]]
"""From gradients, as vectors, to the sum of all changes of the params after each of them."""


def _descent(rate: Callable[[int], float]) -> Formula:
    def changes(gradients: list[Any]) -> Iterator[Any]:
        total = 0.0 * gradients[0]
        for time, gradient in enumerate(gradients):
            total = total - rate(time) * gradient
            yield total

    return changes


def _adam(rate: float, b1: float, b2: float, eps: float) -> Formula:
    def changes(gradients: list[Any]) -> Iterator[Any]:
        total, first, second = (0.0 * gradients[0] for _ in range(3))
        for count, gradient in enumerate(gradients, start=1):
            first = b1 * first + (1 - b1) * gradient
            second = b2 * second + (1 - b2) * gradient**2
            mean, square = first / (1 - b1**count), second / (1 - b2**count)
            total = total - rate * mean / (square**0.5 + eps)
            yield total

    return changes


def _clipped(longest: float, formula: Formula) -> Formula:
    def changes(gradients: list[Any]) -> Iterator[Any]:
        lengths = [float(np.linalg.norm(gradient)) for gradient in gradients]
        shorter = [min(1.0, longest / length) for length in lengths]
        return formula([s * g for s, g in zip(shorter, gradients, strict=True)])

    return changes


def _falling(time: Any) -> Any:
    return 0.1 / (1.0 + time) ** 0.5


OPTIMIZERS: dict[str, tuple[Any, Formula]] = {
    "SGD": (SGD(0.1), _descent(lambda time: 0.1)),
    "SGD on a schedule": (SGD(_falling), _descent(_falling)),
    "Adam": (Adam(0.01), _adam(0.01, 0.9, 0.999, 1e-8)),
    "Adam, other decays": (
        Adam(0.02, b1=0.5, b2=0.9, eps=1e-3),
        _adam(0.02, 0.5, 0.9, 1e-3),
    ),
    "clipped SGD": (Clipped(SGD(0.1), 3.0), _clipped(3.0, _descent(lambda time: 0.1))),
    "clipped Adam": (Clipped(Adam(0.01), 3.0), _clipped(3.0, _adam(0.01, 0.9, 0.999, 1e-8))),
}
"""Each optimizer of the library, and its formula in NumPy."""


def check_optimizers(
    backend: Backend,
    dtype: str,
    optimizers: Mapping[str, tuple[Any, Formula]] = OPTIMIZERS,
    *,
    seed: int = 0,
) -> Finding:
    """Compare optimizers with their formulas, over random gradients of very different sizes."""
    law, draw = "optimizers are their formulas", np.random.default_rng(seed).normal
    shapes = {"b": (3,), "scale": (), "w": (2, 4)}
    trees = [
        {name: np.asarray(10.0 ** (n % 3 - 1) * draw(size=shape)) for name, shape in shapes.items()}
        for n in range(UPDATES)
    ]
    rounded = [{name: leaf.astype(dtype) for name, leaf in tree.items()} for tree in trees]
    vectors = [_vector(tree) for tree in rounded]
    start = {name: np.ones(shape, dtype) for name, shape in shapes.items()}
    allowed, worst_gap, evidence = ROUNDING[dtype] * UNIT[dtype], -1.0, ""
    for name, (optimizer, formula) in optimizers.items():
        params = backend.from_host(start)
        opt_state = optimizer.init(backend, params)
        for time, (tree, change) in enumerate(zip(rounded, formula(vectors), strict=True)):
            gradient = backend.from_host(tree)
            params, opt_state = optimizer.update(backend, gradient, opt_state, params, time)
            expected = _vector(start) + change
            got = _vector(backend.to_host(params))
            gap = largest([float(np.linalg.norm(got - expected) / np.linalg.norm(expected))])
            if gap > worst_gap:
                worst_gap, evidence = gap, f"{name}, after update {time}: relative gap {gap:.3g}."
    verdict: Any = "holds" if worst_gap <= allowed else "broken"
    evidence = f"{len(optimizers)} optimizers, {UPDATES} updates each; {evidence}"
    return Finding(law, verdict, worst_gap, allowed, evidence)


def _vector(tree: Any) -> Any:
    return np.concatenate([np.asarray(tree[name], float).reshape(-1) for name in sorted(tree)])


def check_learner(
    trial: Trial,
    estimator: Estimator | None = None,
    *,
    seed: int = 0,
    make: Callable[..., Any] = Learner,
) -> Finding:
    """Check that a learner takes its estimator's steps and its optimizer's updates, and no others.

    Three laws: each step of a learner is a step of the estimator, with the signs that the learner
    drew, and an update of Adam; `Learner.run`, in chunks, ends where as many calls of `step` end;
    and a learner that is restored from a checkpoint of another, of another seed, exports the same
    and continues as that one, bit for bit.

    Args:
        trial: Trial whose items are repeated; its params are where the learner starts.
        estimator: Estimator of the gradient; `UORO` if not given.
        seed: Seed of the learner.
        make: What makes a learner, called as `Learner` is.
    """
    estimator = UORO() if estimator is None else estimator
    dtype = precision_of(trial.dynamics.backend, trial.state, trial.params[0])
    allowed = ROUNDING[dtype] * UNIT[dtype]
    items = list(islice(cycle(trial.items), STEPS))
    optimizer = Adam(1e-3)

    def learner(number: int = seed) -> Any:
        start = trial.params[0], trial.state
        return make(trial.dynamics, Recording(estimator), optimizer, *start, seed=number)

    found = [
        _of_steps(learner(), trial, estimator, optimizer, items, allowed),
        _of_a_run(learner(), learner(), items, allowed),
        _of_restoring(learner(), learner(seed + 1), items),
    ]
    return worst(found)._replace(system=trial.line)


def _of_steps(
    learner: Any, trial: Trial, estimator: Any, optimizer: Any, items: list[Any], allowed: float
) -> Finding:
    backend = trial.dynamics.backend
    params, state, carry = trial.params[0], trial.state, trial.carry_of(estimator)
    opt_state = optimizer.init(backend, params)
    step, worst_gap, evidence = compiled_step(trial.dynamics, estimator), -1.0, ""
    for time, item in enumerate(items):
        made = learner.step(item)
        carry, state, estimate = step(params, carry, state, item, made.aux)
        params, opt_state = optimizer.update(backend, estimate.gradient, opt_state, params, time)
        for name, got, expected in (
            ("gradient", made.gradient, estimate.gradient),
            ("params", learner.params, params),
            ("state", learner.state, state),
            ("carry", learner.carry, carry),
        ):
            gap = largest([relative_gap(backend, got, expected)])
            if gap > worst_gap:
                worst_gap, evidence = gap, f"step {time}, {name}: relative gap {gap:.3g}."
    law = "a learner takes its estimator's steps and its optimizer's updates"
    verdict: Any = "holds" if worst_gap <= allowed else "broken"
    return Finding(law, verdict, worst_gap, allowed, f"{len(items)} steps; {evidence}")


def _of_a_run(one: Any, other: Any, items: list[Any], allowed: float) -> Finding:
    for item in items:
        one.step(item)
    other.run(iter(items), chunk=8)
    backend = one.backend
    gap = largest(
        relative_gap(backend, getattr(other, name), getattr(one, name))
        for name in ("params", "state", "carry")
    )
    if one.steps != other.steps:
        gap = float("inf")
    verdict: Any = "holds" if gap <= allowed else "broken"
    evidence = f"{one.steps} steps, and a run of {other.steps} in chunks: relative gap {gap:.3g}."
    return Finding("a run is its steps", verdict, gap, allowed, evidence)


def _of_restoring(one: Any, other: Any, items: list[Any]) -> Finding:
    for item in items[:STOP]:
        one.step(item)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "learner.safetensors"
        save_learner(path, one)
        load_learner(path, other)
    apart = _differences(one.export(), other.export())
    when = "after restoring"
    if not apart:
        for item in items[STOP:]:
            one.step(item)
            other.step(item)
        apart, when = _differences(one.export(), other.export()), f"{len(items) - STOP} steps later"
    law = "a learner that is restored continues as the one that was saved"
    evidence = f"Saved at step {STOP}; bit for bit."
    if apart:
        evidence = f"Saved at step {STOP}; different {when}: {', '.join(apart[:5])}."
    return Finding(law, "broken" if apart else "holds", float(len(apart)), 0.0, evidence)


def _differences(one: Any, other: Any) -> list[str]:
    names = sorted({*one.arrays, *other.arrays})
    apart = [
        name
        for name in names
        if name not in one.arrays
        or name not in other.arrays
        or not np.array_equal(np.asarray(one.arrays[name]), np.asarray(other.arrays[name]))
    ]
    return apart + (["numbers"] if one.counts != other.counts else [])
