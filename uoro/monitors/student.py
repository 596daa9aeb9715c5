"""Quantiles of Student's t."""

from __future__ import annotations


def student(freedom: int, level: float = 0.975) -> float:
    """Return a quantile of Student's t by the Cornish-Fisher expansion, within 1 % from 3 up."""
    from statistics import NormalDist  # It takes longer to import than all else here.

    z = NormalDist().inv_cdf(level)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
