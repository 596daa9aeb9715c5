"""Laws of the structure of a step: factors are the Jacobian, and a broken structure is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from uoro.algebra import basis, coordinates
from uoro.backend import Backend
from uoro.derivatives.jacobians import take_jacobians
from uoro.derivatives.structure import find_structure
from uoro.errors import DerivativeError
from uoro.estimators import KroneckerSum
from uoro_conformance.apparatus import compiled_step
from uoro_conformance.finding import UNIT, Finding, precision_of, relative_gap
from uoro_conformance.memory import ROUNDING
from uoro_conformance.programs import kept
from uoro_conformance.systems import Trial

STILL = 4
"""Number of steps before a model breaks its structure."""

LEAF = "recurrent"
"""Name of the leaf that the model breaks."""


def check_factors(trial: Trial, estimator: KroneckerSum, *, seed: int = 0) -> Finding:
    """Check that the Jacobians of each step, multiplied out, are pullbacks of the unit cotangents.

    The structure is found at the first step, as an estimator finds it.
    """
    law, backend = "the factors are the Jacobian", trial.dynamics.backend
    allowed = ROUNDING[precision_of(backend, trial.state, trial.params[0])]
    unit = UNIT[precision_of(backend, trial.state, trial.params[0])]
    key: Any = trial.dynamics
    both, state, worst_gap, evidence = _compiled_jacobians(key), trial.state, 0.0, ""
    structure = find_structure(*trial.first)
    for number, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        found, expected, state = both(structure)(params, state, item)
        for i, (leaf, got) in enumerate(zip([*structure, None], found, strict=True)):
            units = relative_gap(backend, got, expected[i]) / unit
            if units >= worst_gap or not math.isfinite(units):
                name = "the state" if leaf is None else leaf.describe()
                worst_gap, evidence = units, f"Step {number}, {name}"
    verdict: Any = "holds" if worst_gap <= allowed else "broken"
    return Finding(law, verdict, worst_gap, allowed, evidence, trial.line)


@kept(64)
def _compiled_jacobians(dynamics: Any) -> Callable[..., Any]:
    backend = dynamics.backend

    def compare(structure: Any, params: Any, state: Any, item: Any) -> Any:
        model = take_jacobians(dynamics, structure, params, state, item)
        outcome, pullback = dynamics.vjp(params, state, item)
        by_params, by_state = backend.vmap(lambda row: pullback(row, None))(basis(backend, state))
        rows = [leaf for _, leaf in backend.named_leaves(by_params)]
        found = [
            0.0 * dense if made is None else made.whole() + 0.0 * dense
            for made, dense in zip(model.params, rows, strict=True)
        ]
        expected = [*rows, coordinates(backend, by_state)]
        return [*found, model.state], expected, outcome.next_state

    return lambda structure: backend.compile(partial(compare, structure))


def check_broken_structure(
    backend: Backend, dtype: str, estimator: KroneckerSum | None = None
) -> Finding:
    """Check that a model whose matrix acts a second time, from some step on, is refused.

    Where an error can be raised, it must be one, with the name of the leaf; a compiled step must
    return NaN. Wrong numbers are a bias.
    """
    law = "a broken structure is refused"
    estimator = KroneckerSum(1) if estimator is None else estimator
    key: Any = backend
    generator = np.random.default_rng(0)
    params, state, still, moving = (
        backend.from_host(tree, dtype=dtype)
        for tree in (
            {LEAF: generator.normal(size=(3, 3))},
            generator.normal(size=3),
            np.zeros(()),
            np.ones(()),
        )
    )
    once, twice = _models(key)
    carry = estimator.init(once, params, state, inputs=still)
    signs = estimator.draw(partial(backend.random, backend.fold(backend.key(0), 0)), state)
    step = compiled_step(twice, estimator)
    carry, state, estimate = step(params, carry, state, still, signs)
    for _ in range(STILL - 1):
        carry, state, estimate = step(params, carry, state, still, signs)
    if not math.isfinite(float(estimate.loss)):
        return Finding(law, "broken", math.nan, math.nan, "NaN before the structure breaks.")
    try:
        _, _, estimate = step(params, carry, state, moving, signs)
    except DerivativeError as error:
        named = f"'{LEAF}'" in str(error)
        verdict: Any = "holds" if named else "broken"
        return Finding(law, verdict, math.nan, math.nan, f"Error at step {STILL}: {error}")
    values = np.asarray(backend.to_host(estimate.gradient)[LEAF])
    if np.isnan(values).all() and math.isnan(float(estimate.loss)):
        return Finding(law, "holds", math.nan, math.nan, f"Loss and gradient of step {STILL}: NaN.")
    evidence = (
        f"The matrix acts twice from step {STILL} on, and a gradient is returned all the same."
    )
    return Finding(law, "biased", math.nan, math.nan, evidence)


@kept(8)
def _models(backend: Any) -> tuple[Any, Any]:
    """Build a model whose matrix acts once, and one whose acts again unless the item is 0."""
    xp = backend.xp

    def twice(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        inner = params[LEAF] @ state
        state = xp.tanh(inner + x * (params[LEAF] @ xp.tanh(inner)))
        return state, xp.sum(state**2)

    def once(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        state = xp.tanh(params[LEAF] @ state)
        return state, xp.sum(state**2)

    return tuple(backend.dynamics(model, check=False) for model in (once, twice))
