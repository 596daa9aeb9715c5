"""Print what UORO costs elsewhere, next to this library's on the same model, numbers and stream.

    python benchmarks/peers.py braintrace    # its UORO, on JAX
    python benchmarks/peers.py torch-func    # UORO written naively on torch.func

braintrace is wanted for this comparison alone, best in an environment of its own:

    python -m venv peers
    peers/bin/pip install '.[jax]' braintrace
    peers/bin/python benchmarks/peers.py braintrace

The model is a vanilla network of 64 units with a softmax readout, learning by gradient descent at
batch one; the core is one. Before anything is timed, the two are held against each other: they run
one model, and what they call a gradient is one.
"""

from __future__ import annotations

import argparse
import os

# One core, whatever the machine has; set before a framework starts its thread pool.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np
from peer import ALPHABET, CHUNK, Called, spell_versions

from uoro.lab.bench.timing import calibrate, ratios, spread, take_turns

VERSIONS = {
    "braintrace": ["uoro", "braintrace", "brainstate", "jax"],
    "torch-func": ["uoro", "torch"],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=("braintrace", "torch-func"))
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one turn, about")
    options = parser.parse_args()
    symbols = np.random.default_rng(1).integers(0, ALPHABET, CHUNK + 1)
    try:
        if options.peer == "braintrace":
            from peer_braintrace import works
        else:
            from peer_torch_func import works
    except ModuleNotFoundError as error:
        parser.exit(
            2,
            f"peers.py {options.peer}: the module '{error.name}' is not installed. Try, in an "
            "environment of its own: pip install 'uoro[jax]' braintrace (or 'uoro[torch]' for "
            "torch-func).\n",
        )
    pairs: list[tuple[str, Called, Called]] = works(options.units, symbols)
    print(
        f"UORO, {options.units} tanh units, alphabet {ALPHABET}, float32, SGD, batch 1, one core; "
        f"{spell_versions(VERSIONS[options.peer])}; medians [quartiles] of "
        f"{options.repetitions} turns"
    )
    rows: dict[tuple[str, str], Called] = {}
    for what, ours, its in pairs:
        rows |= {(what, "uoro"): ours, (what, options.peer): its}
    ready = {name: calibrate(work, options.seconds) for name, work in rows.items()}
    times = take_turns(ready, options.repetitions, lambda fraction: None)
    for what, _, _ in pairs:
        print(what)
        base = times[what, "uoro"]
        for who in ("uoro", options.peer):
            each, ratio = spread(times[what, who]), ratios(times[what, who], base)
            print(
                f"  {who:>12}: {each.median:9.1f} µs a step [{each.low:.1f}, {each.high:.1f}], "
                f"{1e6 / each.median:10,.0f} steps a second, {ratio.median:6.2f} x uoro's time "
                f"[{ratio.low:.2f}, {ratio.high:.2f}]"
            )


if __name__ == "__main__":
    main()
