"""Run a check on the gallery and on random systems, and find the smallest that is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from uoro_conformance.finding import REFUSALS, Finding, worst
from uoro_conformance.systems import System, systems


class _RefusedError(Exception):
    """Carries a finding through Hypothesis, which shrinks what raises it."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(str(finding))


def explore(
    check: Callable[[System], Finding],
    *,
    gallery: Sequence[System],
    examples: int,
    seed: int,
    pool: Sequence[System] = (),
) -> Finding:
    """Check fixed systems, then random ones; a refusal is shrunk to the smallest system.

    Args:
        check: From a system to a finding.
        gallery: Fixed systems: a guarantee that does not depend on the draw.
        examples: Number of random systems.
        seed: Seed of the draw.
        pool: The sizes to draw from; see `systems`.

    Returns:
        The finding that matters most, with the number of systems in its evidence.
    """
    found = [check(system) for system in gallery]
    if not any(finding.verdict in REFUSALS for finding in found):
        found += _search(check, examples, seed, pool)
        return _said(worst(found), len(found))
    first = worst(found)
    smaller = worst(_search(check, max(examples, 20), seed, pool))
    if smaller.verdict in REFUSALS:
        return smaller._replace(evidence=f"{smaller.evidence} (First on {first.system})")
    return first


def _said(finding: Finding, count: int) -> Finding:
    """Add how many systems there were."""
    return finding._replace(evidence=f"{count} systems. {finding.evidence}")


def _search(
    check: Callable[[System], Finding], examples: int, seed: int, pool: Sequence[System]
) -> list[Finding]:
    """Return the findings of random systems; if one is refused, only that of the smallest such."""
    import hypothesis
    from hypothesis.errors import Flaky

    found = list[Finding]()
    every_check: Any = list(hypothesis.HealthCheck)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max(1, examples),
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=every_check,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(systems(pool))
    def law(system: System) -> None:
        found.append(check(system))
        if found[-1].verdict in REFUSALS:
            raise _RefusedError(found[-1])

    if examples:
        try:
            law()
        except _RefusedError as refused:
            return [refused.finding]
        except Flaky:
            refused_first = next(finding for finding in found if finding.verdict in REFUSALS)
            evidence = f"Checked again, it was not refused: {refused_first.evidence}"
            return [refused_first._replace(verdict="unverifiable", evidence=evidence)]
    return found
