"""What a check found, and the verdicts that must stay apart."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

Verdict: TypeAlias = Literal[
    "holds", "broken", "biased", "not Algorithm 1", "unverifiable", "undecided", "not checked"
]
"""*holds*; *broken*, a law of dynamics or sampling; *biased*, the mean is not RTRL's; *not
Algorithm 1*, other numbers than the paper's, biased or not; *unverifiable*, nothing follows from
what was seen (hidden randomness, non-finite numbers, noise that drowns everything); *undecided*,
too few samples for the bias asked about; *not checked*, with the reason."""

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24}
"""Unit roundoff of each dtype."""


class Finding(NamedTuple):
    """The verdict of one check, with the evidence.

    Attributes:
        law: The law that was checked, in words.
        verdict: One of `Verdict`.
        gap: The largest violation seen, in the unit of ``allowed``; NaN if none was measured.
        allowed: The largest violation that counts as rounding or chance.
        evidence: What was compared, with values.
        system: A line that makes the system again, if the check drew one.
    """

    law: str
    verdict: Verdict
    gap: float
    allowed: float
    evidence: str
    system: str = ""

    @property
    def holds(self) -> bool:
        """Whether the law was checked and holds."""
        return self.verdict == "holds"

    def __str__(self) -> str:
        """Say it in one paragraph."""
        where = f" System: {self.system}." if self.system else ""
        return (
            f"{self.law}: {self.verdict}. gap {self.gap:.3g}, allowed {self.allowed:.3g}. "
            f"{self.evidence}{where}"
        )

    def require(self) -> Finding:
        """Return the finding if the law holds.

        Raises:
            AssertionError: If it does not, with the evidence.
        """
        if not self.holds:
            raise AssertionError(str(self))
        return self


def largest(gaps: Iterable[float]) -> float:
    """Give the largest of several gaps; NaN counts as infinite, not as nothing."""
    return max((math.inf if math.isnan(gap) else gap for gap in gaps), default=0.0)


def worst(findings: list[Finding]) -> Finding:
    """Pick the finding that matters most: a refusal, then what proves nothing, then by gap."""
    for finding in findings:
        if finding.verdict in ("broken", "biased", "not Algorithm 1"):
            return finding
    for finding in findings:
        if not finding.holds:
            return finding
    return max(findings, key=lambda finding: finding.gap / (finding.allowed or 1.0))
