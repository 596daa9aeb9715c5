"""Count false alarms: the conformance suite on this library, over many seeds.

    python benchmarks/false_alarms.py --runs 1000 --jobs 2

Every run draws other random systems, other paths of signs, and other samples. Whatever does not
hold is printed as it comes; at the end there is the count. Exit status 1 if it is not zero.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from uoro import load_backend


def alarms(backend: str, profile_name: str, seed: int) -> tuple[int, int, list[str]]:
    """Run the suite with one seed; give the seed, the number of laws checked, and what failed."""
    from uoro_conformance.cases import Session, run_case
    from uoro_conformance.profiles import profile_named
    from uoro_conformance.suite import cases

    profile = profile_named(profile_name)
    session = Session(load_backend(backend), profile, seed)
    findings = [run_case(case, session) for case in cases(profile)]
    return seed, len(findings), [str(finding) for finding in findings if not finding.holds]


def main() -> int:
    """Run, report, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--profile", default="dev")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    # One thread a process: the systems are small, and the processes fill the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    begun, laws, failed, done = time.perf_counter(), 0, 0, 0
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        seeds = range(options.first, options.first + options.runs)
        jobs = [pool.submit(alarms, options.backend, options.profile, seed) for seed in seeds]
        for job in as_completed(jobs):
            seed, count, messages = job.result()
            done, laws, failed = done + 1, laws + count, failed + len(messages)
            for message in messages:
                print(f"seed {seed}: {message}", flush=True)
            if done % 50 == 0:
                elapsed = time.perf_counter() - begun
                print(f"{done} runs, {failed} false alarms, {elapsed:.0f} s", flush=True)
    print(
        f"{options.runs} runs of the profile '{options.profile}' on {options.backend}, "
        f"{laws:,} laws checked: {failed} false alarms."
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
