"""Run the GPU tests and time learning steps on an NVIDIA GPU, with JAX and PyTorch, in minutes.

    python benchmarks/gpu.py --out gpu.json [--minutes 7] [--test-seconds 150]
    python benchmarks/gpu.py --out cpu.json --device cpu --units 16 --streams 1,4 --minutes 1
    python benchmarks/gpu.py --page docs/speed.md docs/speed/gpu*.json    # measures nothing

One step learns from one item of every stream, Adam included, in float32, with a GRU on an alphabet
of three. JAX compiles a loop of steps; PyTorch runs steps eagerly, or compiles one step. `plain` is
1-truncated BPTT by hand, all streams as one batch. Ratios are those of medians, to `tbptt` of the
same backend, mode, units and streams. The file is rewritten after every row, so an interrupted run
keeps its results; rows without time left are "not reached".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_page import NOT_REACHED, table, write
from gpu_rows import ROOM, Row

from uoro.files.results import versions, write_document

ROOT = Path(__file__).resolve().parent.parent
RTRL_UNITS, LARGE = 64, 2048
SILENCE = 120.0  # seconds without a row until a process is killed
PACKAGES = ["uoro", "numpy", "jax", "jaxlib", "jax-cuda13-plugin", "torch", "triton", "optree"]


def families(units: Sequence[int], streams: Sequence[int]) -> list[tuple[float, list[Row]]]:
    """Return the rows of each process and its share of the time left, most important first."""

    def rows(backend: str, mode: str, units: Sequence[int]) -> list[Row]:
        names = ["tbptt", "uoro", "kronecker rank 2", "joint rank 4", "forward", "rtrl"]
        names = names if backend == "jax" else ["plain", *names]
        made = [Row(backend, mode, n, b, e) for n in units for b in streams for e in names]
        return [row for row in made if row.estimator != "rtrl" or row.units <= RTRL_UNITS]

    small, large = ([n for n in units if (n >= LARGE) == many] for many in (False, True))
    compiled = [[Row("torch", "compiled", n, 1, e) for e in ("uoro", "tbptt")] for n in small[:2]]
    return [
        (0.5, rows("jax", "scan", small)),
        (0.6, rows("torch", "eager", small)),
        *((0.4, each) for each in compiled[:1]),
        (0.5, rows("jax", "scan", large)),
        (0.8, rows("torch", "eager", large)),
        *((1.0, each) for each in compiled[1:]),
    ]


def answers(rows: Sequence[Row], device: str, until: float) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Run rows in a process of their own; skip a row in which the process dies or hangs."""
    rows = list(rows)
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": ".9"}
    while rows and time.monotonic() < until:
        given = json.dumps([asdict(row) for row in rows])
        command = [sys.executable, str(ROOT / "benchmarks" / "gpu_rows.py"), device, given]
        with tempfile.TemporaryFile("w+") as errors:
            child = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | environment
            )
            assert child.stdout is not None
            pending, why = b"", "the process ended"
            while True:
                patience = min(SILENCE, until - time.monotonic())
                if not select.select([child.stdout], [], [], max(0.0, patience))[0]:
                    why = f"no answer within {SILENCE:.0f} s"
                    break
                data = os.read(child.stdout.fileno(), 65536)
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    if line.startswith(b'{"row"'):
                        answer = json.loads(line)
                        rows.remove(row := Row(**answer["row"]))
                        yield row, answer["found"]
            child.kill()
            child.wait()
            errors.seek(0)
            said = errors.read()[-1500:]
        if rows and time.monotonic() < until:
            yield rows.pop(0), {"error": f"{why}: {said}"}


def tested(seconds: float) -> dict[str, Any]:
    """Run the tests that need a GPU, for at most so many seconds, and return their outcome."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/test_gpu.py", "-v", "--tb=short"]
    command += ["-p", "no:cacheprovider", "-o", "filterwarnings=default", "--color=no"]
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1"}
    environment["COLUMNS"] = "400"  # Room for the reasons in the summary.
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=ROOT, env=os.environ | environment
        )
        try:
            code: int | None = child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            code = None
        output.seek(0)
        text = output.read()
    ends = re.findall(r"^(\S+::.+) (PASSED|FAILED|ERROR|SKIPPED)\b", text, re.MULTILINE)
    counts = {kind.lower(): sum(end == kind for _, end in ends) for kind in {e for _, e in ends}}
    last = text.strip().rpartition("\n")[2]
    return {
        "exit_code": code,
        "summary": last if code is not None else f"stopped after {seconds:.0f} s: {counts}",
        **counts,
        "names_failed": [name for name, end in ends if end in ("FAILED", "ERROR")],
        "reasons": re.findall(r"^(?:FAILED|ERROR) \S.* - (.+)", text, re.MULTILINE),
        "seconds": time.monotonic() - begun,
        "tail": text[-8000:],
    }


def card() -> str | None:
    """Return name, driver and memory of the first GPU, from nvidia-smi."""
    command = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader",
    ]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.strip().partition("\n")[0] or None


def with_ratio(row: Row, found: dict[str, Any], results: dict[Row, dict[str, Any]]) -> Any:
    """Return the results of a row, with its ratio to truncation."""
    base = results.get(Row(row.backend, row.mode, row.units, row.streams, "tbptt"), {})
    if {"microseconds"} <= found.keys() & base.keys():
        found = found | {"to_tbptt": found["microseconds"] / base["microseconds"]}
    return asdict(row) | found


def main() -> None:
    """Test, measure and print; or write the page."""
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="a JSON file to write")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--test-seconds", type=float, default=150.0, help="0 leaves the tests out")
    parser.add_argument("--device", help="of PyTorch; with cpu JAX runs there too")
    parser.add_argument("--units", default="64,256,1024,2048")
    parser.add_argument("--streams", default="1,64,1024")
    parser.add_argument("--compiled-only", action="store_true", help="time PyTorch's compiled step")
    parser.add_argument("--page", type=Path, nargs="+", help="a page, then JSON files to show")
    options = parser.parse_args()
    if options.page:
        write(options.page[0], options.page[1:])
        return
    hardware = card()
    if hardware is None and options.device is None:
        parser.exit(2, "gpu.py: nvidia-smi finds no NVIDIA GPU here; try --device cpu.\n")
    device = options.device or "cuda"
    until = begun + 60 * options.minutes
    document: dict[str, Any] = {
        "card": hardware,
        "device": device,
        "python": platform.python_version(),
        "versions": versions(PACKAGES),
        "dtype": "float32",
        "matmul": "each framework's default: XLA may take TF32 on a GPU, PyTorch does not",
    }
    if options.test_seconds and not device.startswith("cpu"):
        document["tests"] = tested(min(options.test_seconds, 0.4 * 60 * options.minutes))
        print(document["tests"]["summary"], flush=True)
    units, streams = (
        [int(n) for n in each.split(",")] for each in (options.units, options.streams)
    )
    plan, results = families(units, streams), dict[Row, dict[str, Any]]()
    if options.compiled_only:
        plan = [(1.0, family) for _, family in plan if family and family[0].mode == "compiled"]
    rows = [row for _, family in plan for row in family]
    too_large = {"skipped": f"it needs more than {ROOM / 1e9:.0f} GB"}
    results |= {row: too_large for row in rows if row.bytes > ROOM}

    def save() -> None:
        found = ((row, results.get(row, {"error": NOT_REACHED})) for row in rows)
        document["rows"] = [with_ratio(*each, results) for each in found]
        document["seconds"] = time.monotonic() - begun
        write_document(options.out, document)

    save()
    # Rows that a family had no time for get the time left at the end.
    for share, family in [*plan, *((1.0, family) for _, family in plan)]:
        now = time.monotonic()
        missing = [row for row in family if row not in results]
        for row, found in answers(missing, device, now + share * (until - now)):
            results[row] = found
            save()
            print(f"{time.monotonic() - begun:5.0f} s {row}", flush=True)
    save()
    print("\n".join(table(document["rows"])))
    print(f"{hardware or device}; written to {options.out}")


if __name__ == "__main__":
    main()
