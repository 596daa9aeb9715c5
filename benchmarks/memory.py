"""Print the peak memory of ``uoro compare`` for runs of growing length, on JAX.

    python benchmarks/memory.py [--steps 10000 1000000]

It runs the linear task of influence balancing, one process a length, so that each figure is the
peak of that run alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

MEASURED = """
import resource, sys
from uoro.cli.app import app
app(sys.argv[1:], standalone_mode=False)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--estimators", default="uoro,rtrl,tbptt:10")
    options = parser.parse_args()
    for steps in options.steps:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                "compare", "influence-balancing", "--backends", "jax", "--out", folder,
                "--estimators", options.estimators, "--steps", str(steps),
            ]  # fmt: skip
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, *command],
                capture_output=True,
                text=True,
                check=True,
            )
        peak = int(done.stdout.split("peak ")[-1]) / 1024  # kibibytes where Linux counts them
        print(f"{steps:>10,} steps: peak {peak:6.0f} MiB, {time.perf_counter() - start:5.1f} s")


if __name__ == "__main__":
    main()
