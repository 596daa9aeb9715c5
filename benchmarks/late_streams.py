"""Time the late gradient of eight streams, by one pullback of all and by one for each; one core.

python benchmarks/late_streams.py [--rounds 50]
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import Any

import numpy as np

from uoro import UORO, JointUORO, Streams, load_backend
from uoro.algebra import total
from uoro.models import GRU, SymbolModel

STREAMS, SYMBOLS = 8, 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50, help="turns of each")
    options = parser.parse_args()
    print(
        f"{'backend':>9} {'estimator':>10} {'units':>6} {'each, µs':>9} {'all, µs':>9} {'ratio':>6}"
    )
    for name in ("jax", "torch", "autograd"):
        for spelling, estimator in (("uoro", UORO()), ("joint:4", JointUORO(4))):
            for units in (64, 256):
                one, other = _times(name, estimator, units, options.rounds)
                print(
                    f"{name:>9} {spelling:>10} {units:>6} {one:>9.0f} {other:>9.0f} "
                    f"{other / one:>6.2f}",
                    flush=True,
                )


def _times(name: str, estimator: Any, units: int, rounds: int) -> tuple[float, float]:
    """Return the median times of both, in µs; they take turns."""
    backend, model = load_backend(name), SymbolModel((GRU(units),), SYMBOLS)
    generator = np.random.default_rng(0)
    params, state = (
        backend.from_host(tree, dtype="float32") for tree in model.init(np.random.default_rng(1))
    )
    symbols = {key: generator.integers(0, SYMBOLS, STREAMS) for key in ("symbol", "target")}
    items = backend.from_host(symbols)
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    state = backend.map(lambda leaf: backend.xp.stack([leaf] * STREAMS), state)
    streams = Streams(estimator, STREAMS)
    carry = streams.init(dynamics, params, state)
    signs = streams.draw(partial(backend.random, backend.key(0)), state)
    carry, state, _ = streams.step(dynamics, params, carry, state, items, signs)
    given = params, carry, state, items, backend.from_host(np.ones(STREAMS, np.float32))

    def each(params: Any, *stacks: Any) -> Any:
        gradient = backend.vmap(lambda *one: estimator.gradient(dynamics, params, *one))
        return total(backend, gradient(*stacks))

    ways = [backend.compile(each) if name == "jax" else each]
    together = partial(streams.gradient, dynamics)
    ways.append(backend.compile(together) if name == "jax" else together)
    times: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for run, seen in zip(ways, times, strict=True):
            begin = time.perf_counter()
            backend.to_host(run(*given))
            if turn:
                seen.append((time.perf_counter() - begin) * 1e6)
    one, other = map(statistics.median, times)
    return one, other


if __name__ == "__main__":
    main()
