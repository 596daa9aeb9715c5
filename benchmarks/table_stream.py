"""Train through a table of a million rows, undisturbed and killed twice; compare and print memory.

    python benchmarks/table_stream.py FOLDER [--rows 1000000] [--model lru] [--units 32]

The table is a sensor with a daily cycle, a slow drift, a second column, four words, and 5 % of the
cells missing. One run goes through it at once. Another one is ended by SIGKILL after a third and by
SIGTERM after two thirds, and resumed each time. At the end both must hold the same bits: params,
influence estimate, statistics of the columns, position, and every line of metrics. One core.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from uoro.checkpoint import Checkpoints
from uoro.training import read_metrics, read_status

BLOCK = 50_000
START = np.datetime64("2015-01-01T00:00:00")
TIMINGS = ("seconds", "throughput", "resident")
PATIENCE = 3600.0


def main() -> None:
    """Write the table, make both runs, compare them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--estimator", default="auto")
    parser.add_argument("--model", default="lru")
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--backend", default="jax")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    given.folder.mkdir(parents=True, exist_ok=True)
    table = given.folder / "readings.csv"
    write(table, given.rows)
    print(f"{table}: {given.rows:,} rows, {table.stat().st_size / 2**20:.1f} MiB")
    arguments = [
        *(str(table), "--target", "temperature", "--horizon", "12"),
        *("--backend", given.backend, "--estimator", given.estimator),
        *("--model", given.model, "--units", str(given.units)),
        *("--log-every", "10000", "--checkpoint-every", "50000"),
    ]
    undisturbed, killed = given.folder / "undisturbed", given.folder / "killed"
    live(arguments, undisturbed)
    for number, end in ((signal.SIGKILL, given.rows // 3), (signal.SIGTERM, 2 * given.rows // 3)):
        status = live(arguments, killed, end=end, by=number)
        print(f"ended by {number.name} after row {end:,}: exit status {status}")
    live(arguments, killed)
    show(undisturbed)
    compare(undisturbed, killed)


def write(path: Path, rows: int) -> None:
    """Write the table, block by block."""
    generator = np.random.default_rng(0)
    drift = 0.0
    with path.open("w") as file:
        file.write("time,temperature,load,wind\n")
        for first in range(0, rows, BLOCK):
            count = min(BLOCK, rows - first)
            numbers = np.arange(first, first + count)
            day = 2 * np.pi * numbers / 288
            noise = generator.normal(0, 0.05, count)
            slow = np.empty(count)
            for i, push in enumerate(noise.tolist()):
                drift = 0.995 * drift + push
                slow[i] = drift
            temperature = 15 + 8 * np.sin(day) + slow + generator.normal(0, 0.1, count)
            load = 100 + 30 * np.sin(day - 0.9) + 5 * slow + generator.normal(0, 3, count)
            wind = np.array(list("NESW"))[generator.integers(4, size=count)]
            times = np.datetime_as_string(START + 300 * numbers.astype("timedelta64[s]"))
            columns = [np.char.mod("%.3f", temperature), np.char.mod("%.2f", load), wind]
            for i, column in enumerate(columns):
                columns[i] = np.where(generator.random(count) < 0.05, "", column)
            lines = [",".join(cells) for cells in zip(times, *columns, strict=True)]
            file.write("\n".join(lines) + "\n")


def live(arguments: list[str], folder: Path, *, end: int = 0, by: int = 0) -> int:
    """Begin a run, or resume it; end it after some rows, if asked to."""
    begun = (folder / "config.toml").exists()
    asked = ["--resume", str(folder)] if begun else [*arguments, "--out", str(folder)]
    command = [sys.executable, "-c", "import sys; from uoro.cli import main; sys.exit(main())"]
    process = subprocess.Popen(
        [*command, "train", *asked], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    began = time.monotonic()
    while end and process.poll() is None:
        time.sleep(0.02)
        if newest(folder) >= end:
            process.send_signal(by)
            break
        if time.monotonic() > began + PATIENCE:
            process.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    if not end and process.returncode:
        raise SystemExit(errors.decode())
    return int(process.returncode)


def newest(folder: Path) -> int:
    """Return the number of rows of the newest line of metrics."""
    path = folder / "metrics.jsonl"
    return int(read_metrics(path)[-1]["step"]) if path.exists() and path.stat().st_size else 0


def show(folder: Path) -> None:
    """Print how a run went, with the memory of its process."""
    lines = read_metrics(folder / "metrics.jsonl")
    print("| row | seconds | resident, MiB | recent loss | persistence |\n|---|---|---|---|---|")
    wanted = {10_000, 100_000, 250_000, 500_000, 750_000, lines[-1]["step"]}
    for line in lines:
        if line["step"] in wanted or line["step"] % 1_000_000 == 0:
            print(
                f"| {line['step']:,} | {line['seconds']:.0f} | {line['resident']} | "
                f"{line['recent']:.4f} | {line['persistence']:.4f} |"
            )
    status = read_status(folder)
    print(
        f"gaps {status['gaps']:,}; temperature: error {status['temperature/rmse_all']:.4f}, "
        f"persistence {status['temperature/persistence_all']:.4f}; "
        f"overhead {status['overhead']}"
    )


def compare(one: Path, two: Path) -> None:
    """Compare two runs bit for bit.

    Raises:
        SystemExit: If they differ.
    """
    first, second = outcome(one), outcome(two)
    differ = [name for name in first if first[name] != second[name]]
    if differ:
        raise SystemExit(f"the killed run DIFFERS in: {', '.join(differ)}")
    print(f"the killed run equals the undisturbed one, bit for bit, in: {', '.join(first)}")


def outcome(folder: Path) -> dict[str, Any]:
    """Return what a run came to, without its timings."""
    found = Checkpoints(folder / "checkpoints").latest()
    assert found is not None
    document = found.snapshot.document
    lines = read_metrics(folder / "metrics.jsonl")
    arrays = found.snapshot.arrays
    return {
        "arrays": {name: (array.dtype, array.tobytes()) for name, array in arrays.items()},
        **{name: document[name] for name in ("learner", "stream", "meter", "scores")},
        "metrics": [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines],
    }


if __name__ == "__main__":
    main()
