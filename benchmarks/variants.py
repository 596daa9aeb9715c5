"""Print the noise of variants of UORO's ranks beside the two that the library has.

    python benchmarks/variants.py [--cell rnn] [--units 16] [--train 100000] [--out variants.json]

The network is trained on aⁿbⁿ by UORO and held. All variants run in NumPy on its exact Jacobians:
the pairs, their pushes and pulls are written out, so that a variant is a few lines. The numbers are
relative variances of the gradient, ``Σ mean ‖g̃ - g‖² / Σ ‖g‖²`` over the later steps, with standard
errors over the runs, and what a step takes in jvps and pullbacks beside the gradient's own; a
diagonal Q of passes takes five forward passes besides.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from uoro import load_backend
from uoro.algebra import basis, coordinates, entry, size
from uoro.estimators.projections import projections
from uoro.estimators.reduction import reduce_pairs, side_of_gram, side_of_rows
from uoro.estimators.scaling import row_factors
from uoro.files.results import made_with, write_document
from uoro.lab.reproduce.measured_model import MeasuredModel

Matrix: TypeAlias = Any
EPSILON = 1e-7


class Step(NamedTuple):
    """One step of the model, written out.

    Attributes:
        jacobian: ∂F/∂s, (n, n).
        immediate: ∂F/∂θ, (n, p).
        state_gradient: ∂ℓ/∂s, (n,).
        norms: Norms of the rows of ∂F/∂θ as they are known from one row a step, (n,).
        factors: Their roots, as the library finds them by a few forward passes, (n,).
    """

    jacobian: Matrix
    fresh_influence: Matrix
    state_gradient: Matrix
    norms: Matrix
    factors: Matrix


@dataclass
class Pairs:
    """The pairs of all runs, ``tangents`` (runs, k, n) and ``cotangents`` (runs, k, p)."""

    tangents: Matrix
    cotangents: Matrix


@dataclass(frozen=True)
class Variant:
    """A way to carry k pairs.

    Attributes:
        name: What it is.
        rank: k.
        jvps: How many a step takes.
        pulls: How many pullbacks of ν it takes.
        advance: Takes the pairs through a step.
        mean: Whether the estimate is the mean of the pairs, and not their sum.
    """

    name: str
    rank: int
    jvps: int
    pulls: int
    advance: Callable[[Pairs, Step, np.random.Generator], None]
    mean: bool


# Laws of the noise: k vectors for each run, (runs, k, n).


def signs(generator: np.random.Generator, runs: int, k: int, n: int) -> Matrix:
    """Draw independent signs."""
    return generator.choice([-1.0, 1.0], (runs, k, n))


def hadamard(generator: np.random.Generator, runs: int, k: int, n: int) -> Matrix:
    """Draw k rows of a Hadamard matrix at random, times the same random signs: all orthogonal."""
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    rows = np.stack([generator.permutation(n)[:k] for _ in range(runs)])
    return matrix[rows] * signs(generator, runs, 1, n)


def fourier(generator: np.random.Generator, runs: int, k: int, n: int) -> Matrix:
    """Draw the library's orthogonal projections, their sum of squares one at each coordinate."""
    backend = load_backend("autograd")
    rows = np.asarray(projections(backend, backend.from_host(np.ones(n)), k))
    return rows * signs(generator, runs, 1, n)


# How pairs are carried.


def separately(
    pairs: Pairs,
    step: Step,
    generator: np.random.Generator,
    *,
    law: Callable[..., Matrix],
    scaling: Callable[[Step], Matrix] = lambda step: 1.0,
    factor: float = 1.0,
) -> None:
    """Merge each carried pair with a fresh one, by the ratios of norms times a factor."""
    runs, k, n = pairs.tangents.shape
    nu = law(generator, runs, k, n) * (math.sqrt(k) if law is fourier else 1.0)
    scale = scaling(step)
    pushed = pairs.tangents @ step.jacobian.T
    fresh, pulled = nu * scale, (nu / scale) @ step.fresh_influence
    norms = [np.linalg.norm(part, axis=-1, keepdims=True) for part in (pulled, fresh)]
    carried = [np.linalg.norm(part, axis=-1, keepdims=True) for part in (pairs.cotangents, pushed)]
    old = np.sqrt(carried[0] / (carried[1] + EPSILON)) + EPSILON
    new = (np.sqrt(norms[0] / (norms[1] + EPSILON)) + EPSILON) * factor
    pairs.tangents = old * pushed + new * fresh
    pairs.cotangents = pairs.cotangents / old + pulled / new


def together(
    pairs: Pairs,
    step: Step,
    generator: np.random.Generator,
    *,
    fresh: int,
    law: Callable[..., Matrix] = fourier,
    scaling: Callable[[Step], Matrix] = lambda step: 1.0,
) -> None:
    """Reduce k carried pairs and some fresh ones to k at the least variance."""
    runs, k, n = pairs.tangents.shape
    nu = law(generator, runs, fresh, n) / (1.0 if law is fourier else math.sqrt(fresh))
    scale = scaling(step)
    pushed = pairs.tangents @ step.jacobian.T
    rows = np.concatenate([pushed, nu * scale], 1)
    columns = np.concatenate([pairs.cotangents, (nu / scale) @ step.fresh_influence], 1)
    chance = signs(generator, runs, 1, max(n, k + fresh))[:, 0]
    for run in range(runs):
        right = side_of_gram(np, columns[run] @ columns[run].T)
        reduction = reduce_pairs(np, side_of_rows(np, rows[run]), right, chance[run], k)
        pairs.tangents[run] = reduction.tangents @ rows[run]
        pairs.cotangents[run] = reduction.cotangents @ columns[run]


def whole(pairs: Pairs, step: Step, generator: np.random.Generator) -> None:
    """Reduce with all of ∂F/∂θ, and no projections: n pullbacks."""
    n = pairs.tangents.shape[2]

    def unit(generator: np.random.Generator, runs: int, k: int, n: int) -> Matrix:
        return np.repeat(np.eye(n)[None], runs, 0) * math.sqrt(n)

    together(pairs, step, generator, fresh=n, law=unit)


def by_rows(step: Step) -> Matrix:
    """Give the diagonal Q that makes ``‖Q ν‖² ‖νᵀ Q⁻¹ ∂F/∂θ‖²`` least on average.

    It is the root of the norms of the rows of ∂F/∂θ, for which these take n pullbacks.
    """
    return _root(np.linalg.norm(step.fresh_influence, axis=1))


def by_one_row(step: Step) -> Matrix:
    """Give nearly the same from one more pullback a step, of one row after the other."""
    return _root(step.norms)


def by_passes(step: Step) -> Matrix:
    """Give what the library does for ``scaling="rows"``."""
    return step.factors


def _root(norms: Matrix) -> Matrix:
    root = np.sqrt(np.maximum(norms, 1e-3 * norms.max()))
    return root / np.sqrt((root**2).mean())


def variants(ranks: list[int], n: int) -> Iterator[Variant]:
    """List them, by rank."""
    for k in ranks:

        def alone(name: str, more: int = 0, k: int = k, **settings: Any) -> Variant:
            return Variant(name, k, k, k + more, partial(separately, **settings), True)

        def joint(name: str, fresh: int, more: int = 0, k: int = k, **settings: Any) -> Variant:
            way = partial(together, fresh=fresh, **settings)
            return Variant(name, k, k, fresh + more, way, False)

        yield alone("independent", law=signs)
        if k > 1:
            yield alone("independent, rows of Hadamard's matrix", law=hadamard)
            yield alone("independent, Fourier rows", law=fourier)
        yield alone("independent, diagonal Q", law=signs, scaling=by_rows)
        yield alone("independent, diagonal Q of one row", 1, law=signs, scaling=by_one_row)
        yield alone("independent, diagonal Q of passes", law=signs, scaling=by_passes)
        for factor in (0.7, 1.4, 2.0):
            yield alone(f"independent, fresh scale × {factor:g}", law=signs, factor=factor)
        yield alone(
            "independent, diagonal Q of one row, × 1.4",
            1,
            law=signs,
            scaling=by_one_row,
            factor=1.4,
        )
        yield joint("optimal", k)
        if k > 1:
            yield joint("optimal, independent signs", k, law=signs)
        yield joint("optimal, diagonal Q", k, scaling=by_rows)
        yield joint("optimal, diagonal Q of one row", k, 1, scaling=by_one_row)
        yield joint("optimal, diagonal Q of passes", k, scaling=by_passes)
        for fresh in sorted({1, k // 4, k // 2} - {0, k}):
            yield joint(f"optimal, {fresh} fresh", fresh)
        if k < n:
            yield joint(f"optimal, {min(2 * k, n)} fresh", min(2 * k, n))
            yield Variant("optimal, all of ∂F/∂θ", k, k, n, whole, False)


# The model.


def follow(options: argparse.Namespace) -> tuple[Iterator[tuple[Step, Matrix]], int, int]:
    """Train, and go along the stream; each step comes with the exact carried part of ∂ℓ/∂θ."""
    backend = load_backend("jax")
    with backend.precision("float64"):
        model = MeasuredModel(
            {
                "backend": "jax",
                "device": None,
                "dtype": "float64",
                "task": "anbn",
                "arguments": {"k": 1, "l": 32, "learning_rate": 1e-3, "decay": 0.03},
                "network": {"cell": options.cell, "units": options.units, "layers": 1},
                "seed": 0,
            }
        )
        (params,), _ = model.train([options.train], lambda done: None)
        items = model.items(options.steps)
        dynamics = model.dynamics

        @backend.compile
        def derive(state: Any, item: Any) -> Any:
            outcome, pullback = dynamics.vjp(params, state, item)
            by_params, by_state = backend.vmap(lambda row: pullback(row, None))(
                basis(backend, state)
            )
            immediate, state_gradient = pullback(None, 1.0)
            lifted = backend.map(lambda leaf: leaf[None], (state_gradient, immediate))
            rows = (coordinates(backend, part) for part in (by_state, by_params, *lifted))
            factors = [factor[None] for factor in row_factors(dynamics, params, state, item)]
            return outcome.next_state, *rows, coordinates(backend, factors)

        n, p = size(backend, model.state), size(backend, params)

    def steps() -> Iterator[tuple[Step, Matrix]]:
        state, influence, norms = model.state, np.zeros((n, p)), np.ones(n)
        for number in range(options.steps):
            with backend.precision("float64"):
                state, *parts = derive(state, entry(backend, items, number))
            jacobian, fresh_influence, state_gradient, immediate, factors = map(np.asarray, parts)
            step = Step(jacobian, fresh_influence, state_gradient[0], norms.copy(), factors[0])
            yield step, (step.state_gradient @ influence, immediate[0])
            influence = jacobian @ influence + fresh_influence
            row = number % n
            new = float(np.linalg.norm(fresh_influence[row]))
            norms[row] = new if number < n else 0.7 * norms[row] + 0.3 * new

    return steps(), n, p


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cell", default="rnn", help="rnn, gru or lstm")
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--ranks", default="1,2,4,8", help="with commas")
    parser.add_argument("--train", type=int, default=100_000, help="characters of training")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--skip", type=int, default=100, help="steps left out")
    parser.add_argument("--runs", type=int, default=32)
    parser.add_argument("--leave-out", default="", help="variants whose names contain it")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()

    steps, n, p = follow(options)
    ranks = [int(rank) for rank in options.ranks.split(",")]
    chosen = [
        one
        for one in variants(ranks, n)
        if not options.leave_out or options.leave_out not in one.name
    ]
    generator = np.random.default_rng(1)
    carried = [
        Pairs(np.zeros((options.runs, one.rank, n)), np.zeros((options.runs, one.rank, p)))
        for one in chosen
    ]
    errors = np.zeros((len(chosen), options.runs))
    square = 0.0
    for number, (step, (truth, immediate)) in enumerate(steps):
        counts = number >= options.skip
        square += counts * float(((truth + immediate) ** 2).sum())
        for i, (one, pairs) in enumerate(zip(chosen, carried, strict=True)):
            rates = pairs.tangents @ step.state_gradient
            found = np.einsum("rk,rkp->rp", rates, pairs.cotangents)
            gap = found / (one.rank if one.mean else 1) - truth
            errors[i] += counts * (gap**2).sum(1)
            one.advance(pairs, step, generator)
    relative = errors / square
    print(f"{options.cell}, {n} coordinates of state, {p} params, {options.train:,} characters")
    print(f"{'rank':>4} {'variant':42} {'jvps':>4} {'pulls':>5} {'relative variance':>20}")
    rows = []
    for one, each in zip(chosen, relative, strict=True):
        value, error = float(each.mean()), float(each.std(ddof=1) / math.sqrt(options.runs))
        print(
            f"{one.rank:>4} {one.name:42} {one.jvps:>4} {one.pulls:>5} {value:>12.4g} ± {error:.2g}"
        )
        rows.append(
            {
                "rank": one.rank,
                "variant": one.name,
                "jvps": one.jvps,
                "pulls": one.pulls,
                "relative_variance": value,
                "standard_error": error,
            }
        )
    if options.out is not None:
        settings = {name: str(value) for name, value in vars(options).items() if name != "out"}
        write_document(options.out, {"settings": settings, "made": made_with("jax"), "rows": rows})


if __name__ == "__main__":
    main()
