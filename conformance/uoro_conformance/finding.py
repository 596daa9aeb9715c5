"""What a check found."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """The verdict of one check, with the evidence.

    Attributes:
        law: The law that was checked, in words.
        holds: Whether it held.
        gap: The largest violation seen, in the unit of ``allowed``.
        allowed: The largest violation that counts as rounding.
        evidence: What was compared.
    """

    law: str
    holds: bool
    gap: float
    allowed: float
    evidence: str

    def require(self) -> Finding:
        """Return the finding if the law holds.

        Raises:
            AssertionError: If it does not, with the evidence.
        """
        if not self.holds:
            raise AssertionError(
                f"{self.law}: broken. gap {self.gap:.3g}, allowed {self.allowed:.3g}. "
                f"{self.evidence}"
            )
        return self
