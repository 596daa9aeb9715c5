"""What a check found, and the verdicts that must stay apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from uoro.algebra import differentiable
from uoro.backend import Backend
from uoro.errors import SettingError

Verdict: TypeAlias = Literal[
    "holds", "broken", "biased", "not Algorithm 1", "unverifiable", "undecided", "not checked"
]
"""*holds*; *broken*, a law of dynamics or sampling; *biased*, the mean is not RTRL's; *not
Algorithm 1*, other numbers than the paper's, biased or not; *unverifiable*, nothing follows from
what was seen (hidden randomness, non-finite numbers, noise that drowns everything); *undecided*,
too few samples for the bias asked about; *not checked*, with the reason."""

REFUSALS = ("broken", "biased", "not Algorithm 1")
"""The verdicts that say something is wrong."""

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24}
"""Unit roundoff of each dtype."""

REAL = {"complex64": "float32", "complex128": "float64"}
"""The dtype of the real and the imaginary part of complex numbers."""


class Finding(NamedTuple):
    """The verdict of one check, with the evidence.

    Attributes:
        law: The law that was checked, in words.
        verdict: One of `Verdict`.
        gap: The largest violation seen, in the unit of ``allowed``; NaN if none was measured.
        allowed: The largest violation that counts as rounding or chance.
        evidence: The comparison, with values.
        system: A line that makes the system again, if the check drew one.
        false_alarm: For a statistical check, the largest probability that it refuses what is
            right; 0 for one that leaves nothing to chance.
        resolves: For a statistical check, the smallest violation it could have seen, in the unit
            that the evidence states; NaN for one that leaves nothing to chance.
    """

    law: str
    verdict: Verdict
    gap: float
    allowed: float
    evidence: str
    system: str = ""
    false_alarm: float = 0.0
    resolves: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether the law was checked and holds."""
        return self.verdict == "holds"

    def __str__(self) -> str:
        """Format the finding as one paragraph."""
        measured = (
            "" if math.isnan(self.gap) else f" gap {self.gap:.3g}, allowed {self.allowed:.3g}."
        )
        where = f" System: {self.system}." if self.system else ""
        return f"{self.law}: {self.verdict}.{measured} {self.evidence}{where}"

    def require(self) -> Finding:
        """Return the finding if the law holds.

        Raises:
            AssertionError: If it does not, with the evidence.
        """
        if not self.holds:
            raise AssertionError(str(self))
        return self


def not_checked(law: str, reason: str, system: str = "") -> Finding:
    """Build the finding of a check that was not made, with the reason."""
    return Finding(law, "not checked", math.nan, math.nan, reason, system)


def largest(gaps: Iterable[float]) -> float:
    """Return the largest of several gaps; NaN counts as infinite, not as nothing."""
    return max((math.inf if math.isnan(gap) else gap for gap in gaps), default=0.0)


def length(backend: Backend, tree: Any) -> float:
    """Compute the norm of a tree on the host; see `length_of_sum`."""
    return length_of_sum(backend, (1.0, tree))


def length_of_sum(backend: Backend, *terms: tuple[float, Any]) -> float:
    """Compute the norm of a sum of trees, each times a number, on the host.

    `uoro.algebra.norm` does the same on the device, and a backend that compiles would compile it
    for each shape of a leaf.
    """
    scales = [scale for scale, _ in terms]
    trees = [differentiable(backend, tree) for _, tree in terms]
    squares = 0.0
    for leaves in zip(*map(backend.to_host, trees), strict=True):
        if len({np.shape(leaf) for leaf in leaves}) > 1:
            return math.inf
        total = sum(scale * _wide(leaf) for scale, leaf in zip(scales, leaves, strict=True))
        squares = math.hypot(squares, float(np.linalg.norm(np.ravel(total))))
    return squares


def _wide(leaf: Any) -> Any:
    """Convert an array on the host to the precision in which nothing gets lost."""
    array = np.asarray(leaf)
    return array.astype(complex if array.dtype.kind == "c" else float)


def relative_gap(backend: Backend, got: Any, expected: Any) -> float:
    """Compute ``‖got - expected‖ / ‖expected‖``, or the plain distance if that norm is zero."""
    gap, scale = length_of_sum(backend, (1.0, got), (-1.0, expected)), length(backend, expected)
    return gap / scale if scale else gap


def worst(findings: Sequence[Finding]) -> Finding:
    """Return the finding that matters most: a refusal, an open verdict, or the largest gap."""
    refused = [finding for finding in findings if finding.verdict in REFUSALS]
    unsettled = [finding for finding in findings if not finding.holds]

    def excess(finding: Finding) -> float:
        return largest([finding.gap / (finding.allowed or 1.0)])

    return (
        max(refused, key=excess)
        if refused
        else unsettled[0]
        if unsettled
        else max(findings, key=excess)
    )


def precision_of(backend: Backend, *trees: Any) -> str:
    """Return the coarsest floating dtype of the leaves, which sets the tolerance.

    Raises:
        SettingError: If it is neither float32 nor float64, whose rounding the tolerances are for.
    """
    names = {
        str(leaf.dtype).rpartition(".")[2]
        for tree in trees
        for _, leaf in backend.named_leaves(tree)
    }
    floating = {REAL.get(name, name) for name in names if "float" in name or name in REAL}
    if not floating or floating - set(UNIT):
        raise SettingError(
            f"uoro_conformance: expected leaves in {' or '.join(sorted(UNIT))}, got "
            f"{', '.join(sorted(names)) or 'none'}. Convert params and state to one of them; the "
            "tolerances are for those."
        )
    return max(floating, key=UNIT.__getitem__)
