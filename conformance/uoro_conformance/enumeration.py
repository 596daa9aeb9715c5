"""Unbiasedness without statistics: the mean over every sequence of signs there is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from uoro.algebra import as_precision, mean, mix, repeat, size, working_precision
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimators import RTRL, UORO, JointUORO
from uoro_conformance.designs import as_noise, draws_of, flat_pairs, is_joint
from uoro_conformance.finding import Finding, largest, relative_gap
from uoro_conformance.memory import UNIT, coarsest

MOST_SIGNS = 14


def sign_sequences(backend: Backend, state: Any, steps: int, *, rank: int = 1) -> list[Any]:
    """List all sequences of signs: for each step, a stack over the 2^(coordinates × steps).

    Args:
        backend: The backend of the state.
        state: Hidden state; one draw has its shape.
        steps: Number of steps in a sequence.
        rank: Number of draws per step, each shaped like the state.

    Raises:
        SettingError: If there are more than 2^14 sequences.
    """
    each = size(backend, state) * rank
    if each * steps > MOST_SIGNS:
        raise SettingError(
            f"sign_sequences(steps={steps}, rank={rank}): expected at most {MOST_SIGNS} signs, got "
            f"{each * steps}, that is 2^{each * steps} sequences. Take fewer steps."
        )
    table = np.array(list(product((-1.0, 1.0), repeat=each * steps)))
    columns = (table[:, step * each : (step + 1) * each] for step in range(steps))
    return [as_noise(backend, state, rows, rank) for rows in columns]


def check_mean_over_all_signs(
    dynamics: Dynamics[Any, Any, Any],
    params: Sequence[Any],
    state: Any,
    items: Sequence[Any],
    *,
    estimator: UORO | JointUORO | None = None,
    tolerance: float | None = None,
) -> Finding:
    """Compare the mean influence and the mean gradients over all sign sequences with RTRL.

    Nothing is drawn and nothing assumed: this is the expectation itself.

    Args:
        dynamics: The model.
        params: One tree of params for each step. Let them differ from step to step: with
            constant ones an estimator that uses stale params cannot be told from a right one.
        state: The state before the first step.
        items: One item of the stream for each step.
        estimator: Estimator under test; `UORO` of rank one if not given.
        tolerance: The relative error that counts as rounding; 1e4 units of it if not given.

    Returns:
        A finding whose gap is the largest relative error, Frobenius norm against Frobenius
        norm, of the mean influence ``E[s̃ ⊗ θ̃]`` after the last step and of the mean gradient
        at each step.
    """
    backend = dynamics.backend
    estimator = estimator if estimator is not None else UORO()
    first = estimator.init(dynamics, params[0], state)
    if tolerance is None:
        memory = coarsest(backend, first, state, params[0])
        tolerance = 1e4 * UNIT[memory] if memory in ("float64", "float32") else 16 * UNIT[memory]
    exact = RTRL()
    drawn = sign_sequences(backend, state, len(items), rank=draws_of(estimator))
    count = int(backend.named_leaves(drawn[0])[0][1].shape[0])

    def all_at_once(theta: Any, carry: Any, state: Any, item: Any, signs: Any) -> Any:
        def one(carry: Any, signs: Any) -> Any:
            carry, _, estimate = estimator.step(dynamics, theta, carry, state, item, signs)
            return carry, estimate.gradient

        carry, gradients = backend.vmap(one)(carry, signs)
        return carry, mean(backend, gradients)

    estimate_step = backend.compile(all_at_once)
    exact_step = backend.compile(partial(exact.step, dynamics))
    carry = repeat(backend, first, count)
    influence, start = exact.init(dynamics, params[0], state), state
    gaps = []
    for theta, item, signs in zip(params, items, drawn, strict=True):
        carry, average = estimate_step(theta, carry, state, item, signs)
        influence, state, estimate = exact_step(theta, influence, state, item, None)
        gaps.append(relative_gap(backend, average, estimate.gradient))

    pairs = as_precision(
        backend, (carry.tangent, carry.cotangent), working_precision(backend, start)
    )
    rows, cotangents = flat_pairs(backend, pairs[0], pairs[1], estimator.rank)
    outer = mix(backend, rows.T / (count if is_joint(estimator) else rows.shape[0]), cotangents)
    gaps.append(relative_gap(backend, outer, influence))
    return Finding(
        law="the mean over all sign sequences is RTRL",
        verdict="holds" if largest(gaps) <= tolerance else "biased",
        gap=largest(gaps),
        allowed=tolerance,
        evidence=(
            f"{estimator} over {count} sequences of {len(items)} steps, "
            f"{size(backend, start)} state coordinates, backend {backend.name}: relative errors "
            f"of the gradients and, last, of the influence: {', '.join(f'{g:.2g}' for g in gaps)}."
        ),
    )
