"""Print how long ``import uoro`` takes in a fresh interpreter: median of several.

python benchmarks/import_time.py [--repeats 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

TIMED = "import time; t = time.perf_counter(); import uoro; print(time.perf_counter() - t)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    seconds = [
        float(subprocess.run([sys.executable, "-c", TIMED], capture_output=True, check=True).stdout)
        for _ in range(options.repeats)
    ]
    print(
        f"import uoro: median {statistics.median(seconds) * 1e3:.1f} ms "
        f"[{min(seconds) * 1e3:.1f}, {max(seconds) * 1e3:.1f}] of {options.repeats}"
    )


if __name__ == "__main__":
    main()
