"""Measure clipping by norm on aⁿbⁿ(1, 32): the loss, and the bias of the mean; JAX, one core.

    python benchmarks/clipping.py [--steps 500000] [--out docs/training/clipping.json]

UORO trains a network at every threshold and seed. The bias is that of a network which was trained
without clipping and is held: over a stretch of steps from a zero influence, each gradient is
clipped by itself, and the sum over the stretch is averaged over many draws of the signs. It is
compared with the sum that exact RTRL gives. Errors are those of a jackknife over blocks of draws.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

# One core, whatever the machine has; set before JAX starts its thread pool.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np

from uoro import RTRL, Clipped, Learner, Optimizer, load_backend
from uoro.algebra import norm, repeat
from uoro.estimators.spelling import parse_estimator
from uoro.files.results import made_with, write_document
from uoro.tasks import Network, anbn

CHUNK, BLOCK = 1000, 64
"""Steps of a compiled loop, and draws that run side by side."""

Figures = dict[str, Any]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--estimator", default="uoro", help="as for uoro compare")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--steps", type=int, default=500_000, help="of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[100.0, 10.0, 1.0])
    parser.add_argument("--draws", type=int, default=16_384, help="of the signs, held network")
    parser.add_argument("--stretch", type=int, default=100, help="steps on the held network")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()

    estimator = parse_estimator(options.estimator).estimator
    backend, task = load_backend("jax"), anbn(network=Network("gru", options.units))
    dynamics: Any = backend.dynamics(partial(task.model.transition, backend.xp))
    print(f"{task.title}, GRU of {options.units} units, {options.estimator}, {task.loss_name}")

    learned, held = list[Figures](), None
    for threshold in (None, *options.thresholds):
        optimizer: Optimizer = task.optimizer
        if threshold is not None:
            optimizer = Clipped(optimizer, threshold)
        losses = []
        for seed in range(options.seeds):
            start = task.model.init(np.random.default_rng(seed))
            params, state = (backend.from_host(tree, dtype="float32") for tree in start)
            learner = Learner(dynamics, estimator, optimizer, params, state, seed=seed)
            stream: Any = task.stream(seed)
            tenths = [
                learner.run(stream, options.steps // 10, chunk=CHUNK).mean_loss * task.loss_scale
                for _ in range(10)
            ]
            losses.append(tenths)
            if held is None:
                held = learner.params, learner.state, _stacked(stream, options.stretch)
        learned.append({"threshold": threshold, "losses": losses})
        ends = "  ".join(f"{tenths[-1]:.4f}" for tenths in losses)
        print(f"clipped at {threshold}: loss in the last tenth, each seed: {ends}", flush=True)

    assert held is not None
    found = measure(backend, dynamics, estimator, *held, options.thresholds, options.draws)
    sizes = "  ".join(f"{share:.0%}: {size:.3g}" for share, size in found["quantiles"].items())
    print(f"held network: norm of the estimates, quantiles {sizes}; exact {found['exact']:.3g}")
    for row in found["rows"]:
        print(
            f"clipped at {row['threshold']}: {row['clipped']:.1%} of the estimates; mean has "
            f"cosine {row['cosine'][0]:.3f} ± {row['cosine'][1]:.3f} with the exact sum, and "
            f"{row['length'][0]:.3f} ± {row['length'][1]:.3f} of its length; "
            f"relative variance {row['variance']:.3g}"
        )
    if options.out is not None:
        settings = {name: str(value) for name, value in vars(options).items() if name != "out"}
        document = {"settings": settings, "made": made_with("jax"), "learned": learned}
        write_document(options.out, document | {"held": found})


def measure(
    backend: Any,
    dynamics: Any,
    estimator: Any,
    params: Any,
    state: Any,
    items: Any,
    thresholds: list[float],
    draws: int,
) -> Figures:
    """Compare the mean of sums of clipped estimates with the exact sum, on a held network."""
    limits = jnp.array([jnp.inf, *thresholds])
    count = len(jax.tree.leaves(items)[0])

    @jax.jit
    def exact() -> tuple[Any, Any]:
        def body(carried: Any, item: Any) -> Any:
            carry, state, total = carried
            carry, state, made = rtrl.step(dynamics, params, carry, state, item, None)
            total = jax.tree.map(jnp.add, total, made.gradient)
            return (carry, state, total), norm(backend, made.gradient)

        rtrl = RTRL()
        start = rtrl.init(dynamics, params, state), state, backend.zeros(params)
        (_, _, total), sizes = jax.lax.scan(body, start, items)
        return total, sizes

    @jax.jit
    def block(key: Any) -> tuple[Any, Any, Any]:
        def body(carried: Any, given: Any) -> Any:
            carry, state, totals = carried
            item, key = given

            def sampler(like: Any, law: Any, batch: Any = (), stacked: int = 0) -> Any:
                return backend.random(key, like, law, (BLOCK, *batch), stacked)

            def one(carry: Any, signs: Any) -> Any:
                carry, after, made = estimator.step(dynamics, params, carry, state, item, signs)
                return carry, after, made.gradient

            carry, after, each = jax.vmap(one)(carry, estimator.draw(sampler, state))
            sizes = jax.vmap(partial(norm, backend))(each)
            factors = jnp.minimum(1.0, limits[:, None] / sizes)
            totals = jax.tree.map(
                lambda total, leaf: total + jnp.einsum("cb,b...->cb...", factors, leaf),
                totals,
                each,
            )
            return (carry, jax.tree.map(lambda leaf: leaf[0], after), totals), sizes

        start = repeat(backend, estimator.init(dynamics, params, state), BLOCK)
        lead = (len(limits), BLOCK)
        totals = jax.tree.map(lambda leaf: jnp.zeros((*lead, *leaf.shape), leaf.dtype), params)
        keys = jax.random.split(key, count)
        (_, _, totals), sizes = jax.lax.scan(body, (start, state, totals), (items, keys))
        flat = jnp.concatenate([leaf.reshape(*lead, -1) for leaf in jax.tree.leaves(totals)], -1)
        return flat.mean(1), (flat**2).sum(-1).mean(1), sizes

    total, exact_sizes = exact()
    truth = np.concatenate(
        [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(total)]
    )
    blocks = [block(jax.random.key(number)) for number in range(max(2, draws // BLOCK))]
    means = np.stack([np.asarray(mean, np.float64) for mean, _, _ in blocks], 1)
    squares = np.mean([np.asarray(square, np.float64) for _, square, _ in blocks], 0)
    sizes = np.concatenate([np.asarray(each).ravel() for _, _, each in blocks])
    rows = []
    for index, threshold in enumerate([None, *thresholds]):
        cosine, length, square = _compared(means[index], truth)
        rows.append(
            {
                "threshold": threshold,
                "clipped": 0.0 if threshold is None else float((sizes > threshold).mean()),
                "cosine": cosine,
                "length": length,
                "variance": float((squares[index] - square) / square),
            }
        )
    return {
        "exact": float(np.linalg.norm(truth)),
        "exact_step": float(np.median(exact_sizes)),
        "quantiles": {share: float(np.quantile(sizes, share)) for share in (0.5, 0.9, 0.99, 1.0)},
        "draws": BLOCK * len(blocks),
        "rows": rows,
    }


def _compared(means: Any, truth: Any) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Return cosine and relative length of a mean of blocks, with errors, and its square.

    The square of the mean is that of pairs of different blocks, to which noise adds nothing.
    """
    along, size = means @ truth, np.linalg.norm(truth)
    gram = means @ means.T

    def look(kept: Any) -> Any:
        count = kept.sum()
        inner = gram[np.ix_(kept, kept)]
        square = (inner.sum() - np.trace(inner)) / (count * (count - 1))
        length = np.sqrt(max(square, 1e-300))
        return np.array([along[kept].mean() / (size * length), length / size, square])

    everything = np.ones(len(means), bool)
    found = look(everything)
    without = np.stack([look(np.arange(len(means)) != left) for left in range(len(means))])
    errors = np.sqrt((len(means) - 1) * without.var(0))
    cosine, length = ((float(found[i]), float(errors[i])) for i in range(2))
    return cosine, length, float(found[2])


def _stacked(stream: Any, count: int) -> Any:
    """Return the next items of a stream, stacked."""
    return {name: jnp.asarray(column) for name, column in stream.take(count).items()}


if __name__ == "__main__":
    main()
