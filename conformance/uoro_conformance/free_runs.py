"""Free runs of an estimator, side by side, with noise of its own: their means and their spread."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uoro.algebra import coordinates, entry, repeat, size
from uoro.backend import Backend
from uoro.estimator import Estimator
from uoro.estimators import RTRL, RollingTruncated
from uoro_conformance.apparatus import compiled_step, one_by_one
from uoro_conformance.designs import is_joint
from uoro_conformance.finding import Finding
from uoro_conformance.monte_carlo import check_mean
from uoro_conformance.programs import kept
from uoro_conformance.systems import Trial

LARGEST_INFLUENCE = 2**23
"""How many numbers exact RTRL may carry before the exact gradient is taken by backpropagation."""

WORTH_A_LOOK = 0.05
"""A leaf is looked at by itself if it has that share of the square of the whole. On a smaller one
the relative noise is large, and a bias does little harm."""


def check_by_sampling(
    trial: Trial,
    estimator: Estimator,
    *,
    delta: float = 0.25,
    alpha: float = 1e-10,
    seed: int = 0,
    batch: int = 1024,
    most: int = 100_000,
) -> Finding:
    """Run an estimator freely, with its own noise, and compare its means with exact RTRL.

    Looked at are projections on the exact quantity, relative to it, so that each mean must be 1:
    of the gradient of the last step and of the sum of all gradients, whole and leaf by leaf; and
    of the influence after the last step, if the carry has ``tangent`` and ``cotangent``. Their
    relative variance does not grow with the size of the model, while that of the gradient does.

    Args:
        trial: Trial to run on.
        estimator: Estimator under test.
        delta: The relative bias that matters.
        alpha: See `check_mean`.
        seed: Seed of the estimator's own draws.
        batch: Number of runs side by side.
        most: Largest number of runs.
    """
    backend, exact = trial.dynamics.backend, _exact(trial)
    looks = {
        name: _looks(backend, name, tree)
        for name, tree in (("last gradient", exact.last), ("sum of gradients", exact.total))
    }
    start = trial.carry_of(estimator)
    carries_pair = hasattr(start, "tangent") and hasattr(start, "cotangent")
    blocks = _looks(backend, "influence", exact.influence) if carries_pair else []

    def sample(number: int) -> Any:
        runs = run_freely(trial, estimator, seed=seed, number=number, count=batch)
        columns = [
            np.asarray(backend.to_host(coordinates(backend, tree)), np.float64) @ weights[0]
            for name, tree in (("last gradient", runs.last), ("sum of gradients", runs.total))
            for _, weights in looks[name]
        ]
        if blocks:
            rank = getattr(estimator, "rank", 1)
            averaged = 1 if is_joint(estimator) else rank
            tangents, cotangents = (
                np.concatenate(
                    [leaf.reshape(batch, rank, -1) for _, leaf in _leaves(backend, tree)], axis=2
                )
                for tree in (runs.carry.tangent, runs.carry.cotangent)
            )
            for _, weights in blocks:
                seen = np.matmul(tangents, weights)
                columns.append((seen * cotangents).sum(axis=(1, 2)) / averaged)
        return np.stack(columns, axis=1)

    names = [name for group in (*looks.values(), blocks) for name, _ in group]
    found = check_mean(
        sample,
        [1.0] * len(names),
        names,
        delta=delta,
        alpha=alpha,
        most=most,
        law="the mean of free runs is RTRL",
        system=trial.line,
    )
    return found._replace(
        evidence=f"{found.evidence} Leaves with less than {WORTH_A_LOOK:.0%} of the square of the "
        "whole, and directions at right angles to it, were not looked at by themselves."
    )


def relative_variance(
    trial: Trial, estimator: Estimator, *, seed: int = 0, count: int = 256, batched: bool = True
) -> tuple[float, float]:
    """Estimate ``E‖g̃ - g‖² / ‖g‖²`` at a trial's last step, g being the exact gradient there.

    Args:
        trial: Trial to run on; its params must be constant if it is too large for exact RTRL.
        estimator: Estimator of the gradient.
        seed: Seed of the draws.
        count: Number of runs, at least 2.
        batched: Whether the backend may map over them; otherwise Python loops.

    Returns:
        The estimate and its standard error. Both are infinite if g is zero.

    References:
        Section 3.4 and figure 1 of the paper, with the exact gradient in place of the mean.
    """
    backend = trial.dynamics.backend
    exact = _vector(backend, _exact_last_gradient(trial))
    if not exact.any():
        return math.inf, math.inf
    runs = run_freely(trial, estimator, seed=seed, number=0, count=count, batched=batched)
    gradients = np.asarray(backend.to_host(coordinates(backend, runs.last)), np.float64)
    ratios = ((gradients - exact) ** 2).sum(axis=1) / (exact @ exact)
    return float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(count))


class Runs(NamedTuple):
    """What a batch of runs ends with: stacks, one entry a run."""

    last: Any
    total: Any
    carry: Any


def run_freely(
    trial: Trial,
    estimator: Estimator,
    *,
    seed: int,
    number: int,
    count: int,
    batched: bool = True,
) -> Runs:
    """Build batch ``number`` of ``count`` runs through a trial, with the estimator's own draws."""
    dynamics, backend, state = trial.dynamics, trial.dynamics.backend, trial.state
    key = backend.fold(backend.key(seed), number)
    carry, total, last = repeat(backend, trial.carry_of(estimator), count), None, None
    key_of_both: Any = (dynamics, estimator)
    advance = _advance_all(*key_of_both, batched)
    for step, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        step_key = backend.fold(key, step)

        def sampler(
            like: Any, law: Any, batch: tuple[int, ...] = (), stacked: int = 0, key: Any = step_key
        ) -> Any:
            return backend.random(key, like, law, (count, *batch), stacked)

        signs = estimator.draw(sampler, state)
        carry, state, last = advance(params, carry, state, item, signs)
        total = last if total is None else backend.combine((1.0, total), (1.0, last))
    return Runs(last, total, carry)


@kept(64)
def _advance_all(dynamics: Any, estimator: Any, batched: bool) -> Any:
    """Build the function that advances all runs by one step, once; they share the state."""
    backend = dynamics.backend
    each = backend.vmap if batched else partial(one_by_one, backend)

    def advance(params: Any, carry: Any, state: Any, item: Any, signs: Any) -> Any:
        def one(carry: Any, signs: Any) -> Any:
            after, following, estimate = estimator.step(dynamics, params, carry, state, item, signs)
            return after, following, estimate.gradient

        after, states, gradients = each(one)(carry, signs)
        return after, entry(backend, states, 0), gradients

    return backend.compile(advance) if batched else advance


class _Exact(NamedTuple):
    """Exact RTRL along a trial: influence after it, last gradient, and sum of all."""

    influence: Any
    last: Any
    total: Any


def _exact(trial: Trial) -> _Exact:
    backend, exact = trial.dynamics.backend, RTRL()
    step = compiled_step(trial.dynamics, exact)
    influence, state = exact.init(trial.dynamics, trial.params[0], trial.state), trial.state
    total = last = backend.zeros(trial.params[0])
    for params, item in zip(trial.params, trial.items, strict=True):
        influence, state, estimate = step(params, influence, state, item, None)
        last = estimate.gradient
        total = backend.combine((1.0, total), (1.0, last))
    return _Exact(influence, last, total)


def _exact_last_gradient(trial: Trial) -> Any:
    """Return the gradient of the last loss, through all steps, by the cheaper exact way."""
    dynamics, backend = trial.dynamics, trial.dynamics.backend
    if size(backend, trial.state) * size(backend, trial.params[0]) <= LARGEST_INFLUENCE:
        return _exact(trial).last
    whole, state = RollingTruncated(len(trial.items)), trial.state
    carry, gradient = whole.init(dynamics, trial.params[0], state, inputs=trial.items[0]), None
    for params, item in zip(trial.params, trial.items, strict=True):
        carry, state, estimate = whole.step(dynamics, params, carry, state, item, None)
        gradient = estimate.gradient
    return gradient


def _leaves(backend: Backend, tree: Any) -> list[tuple[str, Any]]:
    named = backend.named_leaves(backend.to_host(tree))
    return [(name, _real(np.asarray(leaf)).astype(np.float64)) for name, leaf in named]


def _real(array: Any) -> Any:
    return np.stack([array.real, array.imag], -1) if np.iscomplexobj(array) else array


def _vector(backend: Backend, tree: Any) -> Any:
    return np.concatenate([leaf.reshape(-1) for _, leaf in _leaves(backend, tree)])


def _looks(backend: Backend, what: str, tree: Any) -> list[tuple[str, Any]]:
    """List projections on a tree, whole and leaf by leaf, that give 1 on the tree itself.

    Returns:
        For each its name and its weights: a matrix with a row for each entry of a stack, of a
        single row for a tree shaped like the params.
    """
    rows = tree if what == "influence" else repeat(backend, tree, 1)
    leaves = [(name, leaf.reshape(len(leaf), -1)) for name, leaf in _leaves(backend, rows)]
    whole = np.concatenate([leaf for _, leaf in leaves], axis=1)
    square = float((whole**2).sum())
    if not square:
        return []
    looks, start = [(what, whole / square)], 0
    for name, leaf in leaves:
        part = float((leaf**2).sum())
        if len(leaves) > 1 and part >= WORTH_A_LOOK * square:
            weights = np.zeros_like(whole)
            weights[:, start : start + leaf.shape[1]] = leaf / part
            looks.append((f"{what}, leaf '{name}'", weights))
        start += leaf.shape[1]
    return looks
