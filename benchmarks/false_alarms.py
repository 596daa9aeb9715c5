"""Count false alarms: the conformance suite on this library, over many seeds.

    python benchmarks/false_alarms.py --runs 1000 --jobs 2 --results alarms.jsonl

Every run draws other random systems, other paths of signs, and other samples. Whatever does not
hold is printed as it comes; at the end there is the count. Exit status 1 if it is not zero.

Each run is one line of the file of results, written when it ends. Seeds that the file has are not
run again, so that a count may be interrupted. ``--only '*/sampling/*'`` runs some laws alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from uoro import load_backend


def alarms(backend: str, profile_name: str, only: Sequence[str], seed: int) -> dict[str, Any]:
    """Run the suite with one seed; give what was run, the seconds, and what did not hold."""
    from uoro_conformance.profiles import profile_named
    from uoro_conformance.running import run_suite

    begun = time.perf_counter()
    report = run_suite(load_backend(backend), profile_named(profile_name), seed=seed, only=only)
    return {
        **_setting(backend, profile_name, only),
        "seed": seed,
        "laws": len(report.entries),
        "seconds": round(time.perf_counter() - begun, 1),
        "alarms": [f"{e.id}: {e.finding}" for e in report.entries if not e.finding.holds],
    }


def _setting(backend: str, profile: str, only: Sequence[str]) -> dict[str, Any]:
    return {"backend": backend, "profile": profile, "only": list(only)}


def _known(path: Path | None, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of a setting that a file of results has."""
    if path is None or not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if {key: row[key] for key in setting} == setting]


def main() -> int:
    """Run, report, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--profile", default="dev")
    parser.add_argument("--only", action="append", default=[], help="pattern of laws' names")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, help="file to take up and to add lines to")
    options = parser.parse_args()
    # One thread a process: the systems are small, and the processes fill the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    setting = _setting(options.backend, options.profile, options.only)
    seeds = range(options.first, options.first + options.runs)
    rows = {row["seed"]: row for row in _known(options.results, setting) if row["seed"] in seeds}
    begun, already = time.perf_counter(), len(rows)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(alarms, options.backend, options.profile, options.only, seed)
            for seed in seeds
            if seed not in rows
        ]
        for job in as_completed(jobs):
            row = job.result()
            rows[row["seed"]] = row
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            for message in row["alarms"]:
                print(f"seed {row['seed']}: {message}", flush=True)
            if len(rows) % 50 == 0:
                failed = sum(len(each["alarms"]) for each in rows.values())
                elapsed = time.perf_counter() - begun
                news = len(rows) - already
                print(f"{len(rows)} runs, {failed} false alarms, {elapsed / news:.1f} s a run")
    failed = sum(len(row["alarms"]) for row in rows.values())
    laws = sum(row["laws"] for row in rows.values())
    which = f"'{options.profile}'" + "".join(f" ({each})" for each in options.only)
    print(
        f"{len(rows):,} runs of the profile {which} on {options.backend}, "
        f"{laws:,} laws checked: {failed} false alarms."
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
