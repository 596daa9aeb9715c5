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
        gallery: The fixed ones: the guarantee that does not depend on what is drawn.
        examples: How many random ones.
        seed: Of the draw.
        pool: The sizes to draw from; see `systems`.

    Returns:
        The finding that matters most, with the number of systems in its evidence.
    """
    found = [check(system) for system in gallery]
    if examples and all(finding.holds for finding in found):
        found += _search(check, examples, seed, pool)
    first = worst(found)
    if first.verdict in REFUSALS and gallery and first in found[: len(gallery)]:
        smaller = _search(check, max(examples, 20), seed, pool)[-1]
        if smaller.verdict == first.verdict:
            return smaller._replace(evidence=f"{smaller.evidence} (First on {first.system})")
    if first.holds:
        return first._replace(evidence=f"{len(found)} systems. {first.evidence}")
    return first


def _search(
    check: Callable[[System], Finding], examples: int, seed: int, pool: Sequence[System]
) -> list[Finding]:
    """Give the findings of random systems, or the one of the smallest that does not hold."""
    import hypothesis

    found = list[Finding]()
    every_check: Any = list(hypothesis.HealthCheck)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=every_check,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(systems(pool))
    def law(system: System) -> None:
        finding = check(system)
        found.append(finding)
        if not finding.holds:
            raise _RefusedError(finding)

    try:
        law()
    except _RefusedError as refused:
        return [refused.finding]
    return found
