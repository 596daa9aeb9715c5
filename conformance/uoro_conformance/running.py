"""Run the cases of a profile on a backend, into a report."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Sequence
from fnmatch import fnmatchcase

from uoro.arguments import require_seed
from uoro.backend import Backend
from uoro.errors import SettingError
from uoro_conformance.cases import Case, Session, run_case
from uoro_conformance.profiles import Profile
from uoro_conformance.report import Entry, ExpectedFailures, Report
from uoro_conformance.suite import cases

DEFAULT_SEED = 0


def choose_seed(seed: int | None, vary: bool) -> int:
    """Return the given seed, a fresh one if ``vary``, or the default.

    Raises:
        SettingError: If both are asked for, or the seed is out of its range.
    """
    if vary and seed is not None:
        raise SettingError("--seed and --vary-seed: expected one of them, got both.")
    if seed is not None:
        require_seed(f"--seed {seed}", seed)
    return secrets.randbelow(2**31) if vary else DEFAULT_SEED if seed is None else seed


def choose_cases(
    profile: Profile, only: Sequence[str] = (), lacks: Container[str] = ()
) -> list[Case]:
    """List the cases whose id matches one of some patterns; all of them if there are none.

    Raises:
        SettingError: If a pattern matches no case.
    """
    every = cases(profile, lacks)
    for pattern in only:
        if not any(fnmatchcase(case.id, pattern) for case in every):
            raise SettingError(
                f"--only {pattern}: expected a pattern that matches a law. Try one of: "
                f"{', '.join(sorted({case.id.split('/')[1] for case in every}))} as in "
                f"'*/{every[0].id.split('/')[1]}/*', or --list."
            )
    expected = (
        case for case in every if not only or any(fnmatchcase(case.id, part) for part in only)
    )
    return list(expected)


def run_suite(
    backend: Backend,
    profile: Profile,
    *,
    seed: int = DEFAULT_SEED,
    only: Sequence[str] = (),
    expected: ExpectedFailures | None = None,
    progress: Callable[[Entry], None] = lambda entry: None,
) -> Report:
    """Run the suite on a backend.

    Args:
        backend: Backend under test.
        profile: Amount of work.
        seed: Seed of every draw.
        only: Patterns of case ids; everything if there are none.
        expected: The cases that are said beforehand to fail.
        progress: Function called with each entry when it is done.

    Example:
        >>> from uoro import load_backend
        >>> from uoro_conformance.profiles import profile_named
        >>> from uoro_conformance.running import run_suite
        >>> report = run_suite(load_backend("autograd"), profile_named("dev"),
        ...                    only=["float64/derivatives/*"])
        >>> report.exit_status
        0
    """
    chosen = choose_cases(profile, only, getattr(backend, "lacks", ()))
    expected = expected or ExpectedFailures()
    session = Session(backend, profile, seed)
    report = Report(
        f"backend {backend.name} on {backend.device}",
        {"backend": backend.name, "profile": profile.name, "seed": seed, "only": list(only)},
        warnings=[
            f"--xfails-file: '{pattern}' matches no case."
            for pattern in expected.unmatched([case.id for case in chosen])
        ],
    )
    for case in chosen:
        begun = time.perf_counter()
        finding = run_case(case, session)
        entry = Entry(case.id, finding, time.perf_counter() - begun, case.id in expected)
        report.entries.append(entry)
        progress(entry)
    if backend.compiled:
        report.notes.append(f"Systems of {len(session.shapes)} shapes were compiled.")
    return report
