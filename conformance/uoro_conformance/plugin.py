"""The suite under pytest: ``pytest --pyargs uoro_conformance -p uoro_conformance.plugin``.

The options are here and not in a ``conftest.py``, which pytest does not see under ``--pyargs``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uoro.errors import UOROError
from uoro.registry import load_backend, registered_backends
from uoro_conformance.cases import Case, Session
from uoro_conformance.finding import Finding
from uoro_conformance.profiles import PROFILES, profile_named
from uoro_conformance.programs import compile_fast
from uoro_conformance.report import Entry, ExpectedFailures, Report, require_writable
from uoro_conformance.running import choose_seed
from uoro_conformance.suite import cases

PROPERTY = "uoro conformance"
"""Under this name a test leaves its entry, so that it also comes back from parallel workers."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    add = parser.getgroup("uoro conformance").addoption
    add("--backend", metavar="NAME", help="registered backend to check")
    add("--device", metavar="DEVICE", help="device of the arrays, such as cuda")
    add("--profile", default="ci", choices=list(PROFILES), help="amount of work (default: ci)")
    add("--seed", type=int, help="seed of every draw, an integer (default: 0)")
    add("--vary-seed", action="store_true", help="draw a fresh seed, and print it")
    add(
        "--xfails-file",
        type=Path,
        metavar="FILE",
        help="file of laws expected to fail, one pattern per line",
    )
    add("--report", type=Path, metavar="FILE", help="JSON file for the findings")


def pytest_configure(config: pytest.Config) -> None:
    """Load the backend; what cannot be run as asked ends the session before it starts."""
    option: Any = config.getoption
    name, file = option("--backend"), option("--xfails-file")
    try:
        if name is None:
            known = ", ".join(sorted(registered_backends()))
            raise pytest.UsageError(
                f"uoro conformance: expected --backend NAME, got none. Registered: {known}."
            )
        # A worker of a parallel run takes the seed of its controller.
        given = getattr(config, "workerinput", {}).get(PROPERTY)
        seed = choose_seed(option("--seed"), option("--vary-seed")) if given is None else given
        expected = ExpectedFailures.read(file) if file else ExpectedFailures()
        require_writable(option("--report"))
        backend = load_backend(name, device=option("--device"))
    except UOROError as error:
        raise pytest.UsageError(f"uoro conformance: {error}") from error
    profile = profile_named(option("--profile"))
    compile_fast(backend, profile)
    session = Session(backend, profile, seed)
    config.pluginmanager.register(Conformance(session, expected, option("--report")), PROPERTY)


class Conformance:
    """One session of the suite.

    Args:
        session: Session of the suite.
        expected: The laws that are said beforehand to fail.
        path: File for the report; no report if ``None``.
    """

    def __init__(self, session: Session, expected: ExpectedFailures, path: Path | None) -> None:
        self.session, self.expected, self.path = session, expected, path
        self.property = PROPERTY
        self.cases: list[Case] = cases(session.profile, getattr(session.backend, "lacks", ()))
        backend, profile = session.backend, session.profile
        self.report = Report(
            f"backend {backend.name} on {backend.device}",
            {"backend": backend.name, "profile": profile.name, "seed": session.seed},
            warnings=[
                f"--xfails-file: '{pattern}' matches no case."
                for pattern in expected.unmatched([case.id for case in self.cases])
            ],
        )

    def pytest_report_header(self) -> str:
        """Print what determines the run."""
        settings = ", ".join(f"{name} {value}" for name, value in self.report.settings.items())
        return f"uoro conformance: {settings}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass this session's seed to a parallel worker."""
        node.workerinput[PROPERTY] = self.session.seed

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Build one test per case."""
        if "conformance_case" in metafunc.fixturenames:
            ids = [case.id for case in self.cases]
            metafunc.parametrize("conformance_case", self.cases, ids=ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the entry that a test has left."""
        for name, value in report.user_properties if report.when == "call" else ():
            if name == PROPERTY:
                entry: dict[str, Any] = dict(value)  # type: ignore[call-overload]  # ours, a dict
                self.report.entries.append(Entry(finding=Finding(**entry.pop("finding")), **entry))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the summary, and the expectations that match nothing."""
        if self.report.entries:
            terminalreporter.section("uoro conformance")
            for warning in self.report.warnings:
                terminalreporter.line(f"warning: {warning}", yellow=True)
            terminalreporter.line(self.report.summary)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report, if asked for; parallel workers leave that to their controller."""
        if self.path is not None and not hasattr(session.config, "workerinput"):
            self.report.write_json(self.path)


@pytest.fixture(scope="session")
def conformance(pytestconfig: pytest.Config) -> Conformance:
    """Return the session of the suite."""
    session: Conformance = pytestconfig.pluginmanager.get_plugin(PROPERTY)  # type: ignore[assignment]  # registered above
    return session
