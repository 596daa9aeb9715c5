"""Laws of Kronecker sums: unbiased by enumeration, and equal to a dense reference in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from uoro.algebra import coordinates, entry, mean, repeat, size
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.estimators import RTRL, KroneckerSum
from uoro.estimators.kronecker_carry import DRAWS, KroneckerInfluence, KroneckerSigns
from uoro.estimators.kronecker_pairs import multiplied_out, terms_of
from uoro_conformance.apparatus import compiled_step
from uoro_conformance.dense import SQUARED, reduce_densely
from uoro_conformance.designs import as_noise
from uoro_conformance.finding import UNIT, Finding, largest, precision_of, relative_gap
from uoro_conformance.systems import Trial

FAINT = 64
"""Largest singular value that counts as rounding, in units of it times the largest."""


def influence_of(backend: Backend, params: Any, carry: KroneckerInfluence) -> Any:
    """Return the influence that a carry stands for: n trees, shaped like the params.

    Leaves that the estimator of the rest carries, as pairs, are multiplied out too.
    """
    n = _rows(backend, carry)

    def whole(name: str, leaf: Any) -> Any:
        terms = terms_of(carry.terms, name, tuple(leaf.shape))
        if terms is not None:
            return multiplied_out(terms)
        if name in carry.exact:
            return carry.exact[name]
        if name in carry.rest:
            pair = carry.rest[name]
            rows = coordinates(backend, backend.map(lambda part: part[None], pair.tangent))[0]
            return rows.reshape((-1,) + (1,) * len(leaf.shape)) * pair.cotangent[None]
        return backend.zeros(leaf, batch=(n,))

    names = iter([name for name, _ in backend.named_leaves(params)])
    return backend.map(lambda leaf: whole(next(names), leaf), params)


def _rows(backend: Backend, carry: KroneckerInfluence) -> int:
    for terms in carry.terms.values():
        return int(terms.left[0].shape[0])
    for rows in carry.exact.values():
        return int(rows.shape[0])
    return sum(size(backend, pair.tangent) for pair in list(carry.rest.values())[:1])


def signs_for_all(
    backend: Backend, state: Any, rank: int, rows: Any, of_rest: Any = ()
) -> KroneckerSigns:
    """Build the signs of many runs in which all leaves of a run are given the same signs.

    Leaves never mix, and each is unbiased by its own signs: the mean over all signs is the same
    as with signs of their own, and there are far fewer of them.

    Args:
        backend: Backend of the state.
        state: Hidden state.
        rank: r.
        rows: A matrix, the signs of one run in each row, at most r + 2.
        of_rest: Signs of the estimator of the rest, a stack with one entry for each run.
    """
    count, used = rows.shape
    table = np.ones((count, rank + 2))
    table[:, :used] = rows
    spread = np.repeat(table[:, None, :], DRAWS, 1)

    def fill(zero: Any) -> Any:
        shape = (count, DRAWS, rank + 2) + (1,) * (len(zero.shape) - 3)
        return zero + backend.from_host(spread.reshape(shape) * np.ones(zero.shape))

    zeros = backend.zeros(state, batch=(count, DRAWS, rank + 2))
    return KroneckerSigns(backend.map(fill, zeros), of_rest)


def check_mean_of_terms(
    dynamics: Dynamics[Any, Any, Any],
    params: Sequence[Any],
    state: Any,
    items: Sequence[Any],
    *,
    estimator: Any = None,
    fixed: int = 0,
    fresh: int = 1,
    tolerance: float | None = None,
) -> Finding:
    """Compare the mean influence and the mean gradients over all signs with exact RTRL.

    Nothing is drawn: this is the expectation itself. Compared are the gradients of all steps, and
    the influence after the last one.

    Args:
        dynamics: The model.
        params: One tree of params for each step; let them differ.
        state: State before the first step.
        items: One item of the stream for each step.
        estimator: Estimator under test; default ``KroneckerSum()``.
        fixed: Number of first steps whose signs are not enumerated, because nothing depends on
            them: the first r steps.
        fresh: Number of terms that a step adds: 1, or 2 with a complex leaf.
        tolerance: The relative error that counts as rounding; 1e4 units of it if not given.
    """
    backend = dynamics.backend
    estimator = KroneckerSum() if estimator is None else estimator
    if tolerance is None:
        tolerance = 1e4 * UNIT[precision_of(backend, state, params[0])]
    used, n = estimator.rank + fresh, size(backend, state)
    rest = 0 if isinstance(estimator.rest, str) else n
    free = len(items) - fixed
    table = np.array(list(product((-1.0, 1.0), repeat=(used + rest) * free)))
    count = len(table)

    def step(theta: Any, carry: Any, state: Any, item: Any, signs: Any) -> Any:
        def one(carry: Any, signs: Any) -> Any:
            carry, _, estimate = estimator.step(dynamics, theta, carry, state, item, signs)
            return carry, estimate.gradient

        carry, gradients = backend.vmap(one)(carry, signs)
        return carry, mean(backend, gradients)

    estimate_step, exact = backend.compile(step), RTRL()
    exact_step = compiled_step(dynamics, exact)
    carry = repeat(backend, estimator.init(dynamics, params[0], state, inputs=items[0]), count)
    influence = exact.init(dynamics, params[0], state)
    gaps = []
    for number, (theta, item) in enumerate(zip(params, items, strict=True)):
        at = max(number - fixed, 0) * (used + rest)
        rows = table[:, at : at + used] if number >= fixed else np.ones((count, used))
        of_rest: Any = ()
        if rest:
            of_rest = as_noise(backend, state, table[:, at + used : at + used + rest], 1)
        signs = signs_for_all(backend, state, estimator.rank, rows, of_rest)
        carry, average = estimate_step(theta, carry, state, item, signs)
        influence, state, estimate = exact_step(theta, influence, state, item, None)
        gaps.append(relative_gap(backend, average, estimate.gradient))
    whole = backend.compile(backend.vmap(lambda each: influence_of(backend, params[0], each)))
    average = mean(backend, whole(carry))
    gaps.append(relative_gap(backend, average, influence))
    return Finding(
        law="the mean over all signs of Kronecker sums is RTRL",
        verdict="holds" if largest(gaps) <= tolerance else "biased",
        gap=largest(gaps),
        allowed=tolerance,
        evidence=(
            f"{estimator} over {count} sequences of signs, {len(items)} steps, {n} state "
            f"coordinates, backend {backend.name}: relative errors of the gradients and, last, of "
            f"the influence: {', '.join(f'{gap:.2g}' for gap in gaps)}."
        ),
    )


def check_terms_by_dense_reference(trial: Trial, estimator: Any, *, seed: int = 0) -> Finding:
    """Compare the terms of each step with a reduction of the dense sum, in NumPy.

    The sum ``J Σ_ρ A_ρ ⊗ u_ρ + D ⊗ a`` of each leaf is written out as a matrix, from the Jacobians
    that differences of nothing but `Dynamics` pullbacks give, and reduced by its singular values.
    Compared are what the kept directions are, and the variance that is added.
    """
    backend, dynamics = trial.dynamics.backend, trial.dynamics
    law = "the terms are those of a dense reduction"
    carry = estimator.init(dynamics, trial.params[0], trial.state, inputs=trial.items[0])
    state, gaps = trial.state, list[float]()
    step, exact_step = compiled_step(dynamics, estimator), compiled_step(dynamics, RTRL())
    # Inner products square the condition: half of the digits are left.
    unit = UNIT[precision_of(backend, state, trial.params[0])]
    tolerance = SQUARED * unit**0.5
    generator = np.random.default_rng(seed)
    for theta, item in zip(trial.params, trial.items, strict=True):
        before = influence_of(backend, theta, carry)
        expected, following, _ = exact_step(theta, before, state, item, None)
        rows = generator.choice([-1.0, 1.0], (1, estimator.rank + 1))
        signs = entry(backend, signs_for_all(backend, state, estimator.rank, rows), 0)
        carry, state, _ = step(theta, carry, state, item, signs)
        got = dict(backend.named_leaves(backend.to_host(influence_of(backend, theta, carry))))
        wanted = dict(backend.named_leaves(backend.to_host(expected)))
        added = 0.0
        for name, dense in wanted.items():
            if not any(name in terms.right[0] for terms in carry.terms.values()):
                gaps.append(_relative(np.asarray(got[name]), np.asarray(dense)))
        for terms in carry.terms.values():
            matrices = [_as_matrix(trees, terms) for trees in (got, wanted)]
            reduced = reduce_densely(_without_rounding(matrices[1], unit), estimator.rank)
            added += reduced.added
            left, right = reduced.left[: reduced.alone], reduced.right[: reduced.alone]
            kept = left @ matrices[0] @ right.T
            gaps.append(_relative(kept, np.diag(reduced.values[: reduced.alone])))
        scale = sum(float((np.abs(np.asarray(leaf)) ** 2).sum()) for leaf in wanted.values())
        gaps.append(abs(float(carry.added) - added) / max(scale, 1e-300))
        state = following
    gap = largest(gaps)
    return Finding(
        law=law,
        verdict="holds" if gap <= tolerance else "not Algorithm 1",
        gap=gap,
        allowed=tolerance,
        evidence=f"{estimator}, {len(trial.items)} steps, largest relative difference {gap:.2g}.",
        system=trial.line,
    )


def _relative(got: Any, wanted: Any) -> float:
    size = float(np.linalg.norm(np.asarray(wanted).reshape(-1)))
    gap = float(np.linalg.norm((np.asarray(got) - np.asarray(wanted)).reshape(-1)))
    return gap / size if size else gap


def _without_rounding(matrix: Any, unit: float) -> Any:
    """Drop the directions that only the rounding of the backend has put into a matrix."""
    basis, values, cobasis = np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
    seen = values > FAINT * unit * values[0]
    return basis[:, seen] * values[seen] @ cobasis[seen]


def _as_matrix(leaves: dict[str, Any], terms: Any) -> Any:
    """Write n rows of the leaves of a site as one matrix: rows of A, by entries of u."""
    return np.concatenate(
        [_of_leaf(leaves[name], u.shape) for name, u in terms.right[0].items()], axis=1
    )


def _of_leaf(array: Any, inputs: tuple[int, ...]) -> Any:
    spans = [size > 1 for size in inputs]
    axes = [0] + [i + 1 for i, own in enumerate(spans) if not own]
    axes += [i + 1 for i, own in enumerate(spans) if own]
    return np.transpose(np.asarray(array), axes).reshape(-1, int(np.prod(inputs)))
