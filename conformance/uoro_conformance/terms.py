"""Laws of one step of Kronecker sums: its mean over all signs, and the signs of each leaf."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from uoro.algebra import mean, norm, repeat, size
from uoro.estimators import RTRL, KroneckerSum
from uoro.estimators.kronecker_carry import DRAWS, KroneckerInfluence, KroneckerSigns
from uoro_conformance.apparatus import compiled_step
from uoro_conformance.designs import gaussian
from uoro_conformance.exact import SCALES
from uoro_conformance.finding import UNIT, Finding, precision_of
from uoro_conformance.kronecker import influence_of, signs_for_all
from uoro_conformance.memory import ROUNDING
from uoro_conformance.programs import kept
from uoro_conformance.systems import Trial


def check_chain_of_terms(trial: Trial, estimator: KroneckerSum, *, seed: int = 0) -> Finding:
    """Check that the mean of each step over all signs is RTRL's, for any terms that it starts from.

    The terms are those of one path of signs from the zero start, and random ones at scales from
    1e-8 to 1e4. All gradients are compared too, without averaging: a gradient is that of the terms
    that the step arrived with.

    Args:
        trial: Trial to run on.
        estimator: Estimator under test, without an estimator of the rest.
        seed: Seed of the path and of the random terms.

    Returns:
        *biased* with the relative error of the mean, in units of rounding.
    """
    law, backend = "each step's mean over all signs is RTRL's", trial.dynamics.backend
    dtype = precision_of(backend, trial.state, trial.params[0])
    carry, state = trial.carry_of(estimator), trial.state
    if float(norm(backend, carry)) > 0:
        return Finding(
            law, "biased", math.inf, ROUNDING[dtype], "The initial carry is not zero.", trial.line
        )
    fresh = 2 if any(backend.parts(leaf) == 2 for leaf in _lefts(carry)) else 1
    rows = np.array(list(product((-1.0, 1.0), repeat=estimator.rank + fresh)))
    signs = signs_for_all(backend, state, estimator.rank, rows)
    key: Any = (trial.dynamics, estimator)
    measure, step = _compiled_means(*key), compiled_step(*key)
    generator, worst_gap, evidence = np.random.default_rng(seed), 0.0, ""
    for number, (params, item) in enumerate(zip(trial.params, trial.items, strict=True)):
        starts = {f"step {number}": carry}
        starts |= {
            f"step {number}, random terms at {scale:g}": backend.combine(
                (scale, gaussian(backend, carry, seed, number, place))
            )
            for place, scale in enumerate(SCALES[dtype])
        }
        for where, start in starts.items():
            errors = backend.to_host(measure(params, start, state, item, signs))
            for what, error in zip(("influence", "gradients"), errors, strict=True):
                units = float(error) / UNIT[dtype]
                if units >= worst_gap or not math.isfinite(units):
                    worst_gap, evidence = units, f"{where}, {what}: relative error {error:.3g}."
                if not units <= ROUNDING[dtype]:
                    return Finding(law, "biased", units, ROUNDING[dtype], evidence, trial.line)
        path = generator.choice([-1.0, 1.0], (1, estimator.rank + fresh))
        drawn = signs_for_all(backend, state, estimator.rank, path)
        one = backend.map(lambda leaf: leaf[0], drawn)
        carry, state, _ = step(params, carry, state, item, one)
    return Finding(law, "holds", worst_gap, ROUNDING[dtype], evidence, trial.line)


def _lefts(carry: KroneckerInfluence) -> list[Any]:
    return [terms.left[0] for terms in carry.terms.values()]


@kept(64)
def _compiled_means(dynamics: Any, estimator: Any) -> Callable[..., Any]:
    """Compile the relative errors of the mean influence and of all gradients of one step.

    They are relative to the size of what was averaged.
    """
    backend, exact = dynamics.backend, RTRL()

    def measure(params: Any, carry: Any, state: Any, item: Any, signs: Any) -> Any:
        before = influence_of(backend, params, carry)
        expected, _, truth = exact.step(dynamics, params, before, state, item, None)

        def one(drawn: Any) -> Any:
            after, _, estimate = estimator.step(dynamics, params, carry, state, item, drawn)
            whole = influence_of(backend, params, after)
            off = backend.combine((1.0, estimate.gradient), (-1.0, truth.gradient))
            return whole, backend.inner(whole, whole), norm(backend, off)

        influences, squares, off = backend.vmap(one)(signs)
        error = backend.combine((1.0, mean(backend, influences)), (-1.0, expected))
        terms = squares.mean() ** 0.5 + norm(backend, expected)
        return (
            _relative(norm(backend, error), terms),
            _relative(backend.xp.max(off), norm(backend, truth.gradient) + norm(backend, before)),
        )

    compiled: Callable[..., Any] = backend.compile(measure)
    return compiled


def _relative(error: Any, scale: Any) -> Any:
    return error / (scale + (scale == 0) * 1.0)


def check_own_signs(trial: Trial, estimator: KroneckerSum, *, seed: int = 0) -> Finding:
    """Check that the signs of any two leaves are independent.

    A step is repeated with one column of its signs flipped, for each column. A leaf depends on the
    product of the columns that change its terms. Two such products of fair signs are independent if
    their sets of columns differ, and neither is empty.

    Returns:
        *not Algorithm 1* if two leaves depend on the same columns: errors of their gradients would
        then be correlated, without any bias.
    """
    law, backend = "leaves have signs of their own", trial.dynamics.backend
    n, draws = size(backend, trial.state), estimator.rank + 2
    carry = gaussian(backend, trial.carry_of(estimator), seed)
    key = backend.fold(backend.key(seed), 0)
    drawn = estimator.draw(partial(backend.random, key), trial.state)
    columns = DRAWS * n
    flips = np.ones((columns + 1, DRAWS, draws, n))
    for column in range(columns):
        flips[column + 1, column // n, :, column % n] = -1.0
    signs = _times(backend, trial.state, drawn, flips)
    step = compiled_step(trial.dynamics, estimator)
    params, state, item = trial.params[0], trial.state, trial.items[0]
    first = backend.map(lambda leaf: leaf[0], signs)
    usual = step(params, carry, state, item, first)[0]
    moved: dict[str, list[int]] = {name: [] for name in usual.terms}
    for column in range(columns):
        other = backend.map(lambda leaf, at=column + 1: leaf[at], signs)
        after = step(params, carry, state, item, other)[0]
        for name, terms in after.terms.items():
            change = backend.combine((1.0, terms), (-1.0, usual.terms[name]))
            if float(norm(backend, change)) > float(norm(backend, usual.terms[name])):
                moved[name].append(column)
    shared = [
        f"{one!r} and {other!r}"
        for one, other in combinations(moved, 2)
        if moved[one] == moved[other]
    ]
    constant = [repr(name) for name, seen in moved.items() if not seen]
    evidence = f"{len(moved)} leaves with terms, {columns} columns of signs."
    if shared:
        evidence = f"Leaves {', '.join(shared)} depend on the same signs. {evidence}"
    if constant:
        evidence = f"Leaves {', '.join(constant)} depend on no signs. {evidence}"
    count = len(shared) + len(constant)
    verdict: Any = "not Algorithm 1" if count else "holds"
    return Finding(law, verdict, float(count), 0.0, evidence, trial.line)


def _times(backend: Any, state: Any, drawn: KroneckerSigns, flips: Any) -> KroneckerSigns:
    """Return a stack of signs, each times one entry of the flips."""
    stack, start = repeat(backend, drawn.terms, len(flips)), 0

    def flip(leaf: Any) -> Any:
        nonlocal start
        shape = tuple(leaf.shape)
        wide = math.prod(shape[3:])
        part = flips[..., start : start + wide].reshape(shape)
        start += wide
        return leaf * backend.from_host(part)

    return KroneckerSigns(backend.map(flip, stack), drawn.rest)
