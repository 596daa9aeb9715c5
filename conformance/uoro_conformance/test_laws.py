"""The suite as tests, one for each law; collected by ``pytest --pyargs uoro_conformance``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from uoro_conformance.cases import Case, run_case

if TYPE_CHECKING:
    from uoro_conformance.plugin import Conformance


@pytest.fixture(scope="module", autouse=True)
def _plugin(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.pluginmanager.has_plugin("uoro_conformance.plugin"):
        pytest.fail(
            "uoro_conformance: load its plug-in: "
            "pytest --pyargs uoro_conformance -p uoro_conformance.plugin --backend NAME",
            pytrace=False,
        )


def test_law(
    conformance_case: Case, conformance: Conformance, request: pytest.FixtureRequest
) -> None:
    """Check one law, and leave what was found for the report."""
    begun = time.perf_counter()
    finding = run_case(conformance_case, conformance.session)
    expected = conformance_case.id in conformance.expected
    entry = {
        "id": conformance_case.id,
        "finding": finding._asdict(),
        "seconds": time.perf_counter() - begun,
        "expected": expected,
    }
    request.node.user_properties.append((conformance.property, entry))
    if finding.verdict == "not checked":
        pytest.skip(finding.evidence)
    if expected and not finding.holds:
        pytest.xfail(str(finding))
    finding.require()
