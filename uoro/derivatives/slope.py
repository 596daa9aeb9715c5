"""One derivative along one line, by central differences that estimate their own error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

STEP = {"float64": 5e-4, "float32": 1.5e-2}
"""First step size of the search, by dtype."""

STEPS = (1.0, 0.25, 4.0, 1 / 16, 1 / 64, 1 / 256)
"""Multiples of the first step size, in the order of the search."""

FURTHER = 8
"""How many further step sizes are tried, each a factor `STRIDE` from the best one so far."""

FURTHEST = 64.0
"""Largest multiple of a first step size that is tried: further off it is another function."""

STRIDE = 16.0
"""Factor between further step sizes."""

SURE = 3e-3
"""Largest relative error of a difference that is trusted."""

PEER = 0.1
"""Largest relative error of a difference that confirms another one."""

FLAT = 10.0
"""Up to so many times the rounding error, two differences are equal."""

KINK = 0.01
"""Derivatives to both sides that differ by more than this share are a kink."""


class Slope(NamedTuple):
    """A derivative along one direction.

    Attributes:
        fine: The derivative by differences.
        unsure: The estimated error of `fine`.
        claimed: The derivative by the VJP.
        jump: Half the difference of the derivatives to both sides, at a kink; 0 where there is
            none, or where nothing is to be explained.
        rounding: The part of `unsure` that is due to rounding.
    """

    fine: float
    unsure: float
    claimed: float
    jump: float = 0.0
    rounding: float = 0.0

    @property
    def size(self) -> float:
        """The scale of relative errors."""
        return abs(self.fine) + abs(self.claimed)

    @property
    def sure(self) -> bool:
        """Whether the differences resolve the derivative.

        They do if their error is small beside themselves; or, of a function that is flat but for
        rounding, beside the claim.
        """
        flat = self.unsure <= SURE * self.size and self.unsure <= FLAT * self.rounding
        return flat or self.unsure <= SURE * abs(self.fine)

    @property
    def kinked(self) -> bool:
        """Whether the point is on a kink, so that there is no derivative to compare with."""
        return self.jump > KINK * self.size

    @property
    def gap(self) -> float:
        """The relative error beyond `unsure`; infinite for NaN, zero if both are zero."""
        if not self.size:
            return 0.0
        gap = max(0.0, abs(self.fine - self.claimed) - self.unsure) / self.size
        return math.inf if math.isnan(gap) else gap


class Line:
    """A function along a line, and its values so far.

    Args:
        value: The function, of the distance from the point.
        rounding: The rounding error of one value.
    """

    def __init__(self, value: Callable[[float], float], rounding: float) -> None:
        self.rounding = rounding
        self._value = value
        self._seen = dict[float, float]()

    def value(self, t: float) -> float:
        """Compute the function at a distance, once."""
        if t not in self._seen:
            self._seen[t] = self._value(t)
        return self._seen[t]

    def odd(self, t: float) -> float:
        """Compute ``f(t) - f(-t)``."""
        return self.value(t) - self.value(-t)

    def difference(self, h: float, claimed: float) -> Slope:
        """Differentiate to the fourth order at one step size, and estimate the error."""
        fine = (8 * self.odd(h) - self.odd(2 * h)) / (12 * h)
        coarse = (8 * self.odd(2 * h) - self.odd(4 * h)) / (24 * h)
        rounding = self.rounding / h
        return Slope(fine, abs(fine - coarse) + rounding, claimed, rounding=rounding)

    def jump(self, h: float) -> float:
        """Estimate half the difference of the derivatives to both sides.

        ``(f(h) + f(-h) - 2 f(0)) / 2h`` is that, and a term in h of the curvature, which the same
        at 2h takes out.
        """
        once, twice = (
            abs(self.value(t) + self.value(-t) - 2 * self.value(0.0)) / (2 * t) for t in (h, 2 * h)
        )
        found = 2 * once - twice
        return found if found > 4 * self.rounding / h else 0.0


def slope(line: Line, claimed: float, steps: Sequence[float], enough: float) -> Slope:
    """Differentiate along a line, at the most trusted step size that agrees with the claim.

    A difference is trusted if it is sure of itself and agrees with the claim, or with that at
    another step size; one alone may be sure by chance, where the function turns within a step.
    Where none is, the search goes on: to larger step sizes where rounding dominates, and to
    smaller ones elsewhere.

    Args:
        line: The function along the line.
        claimed: The derivative by the VJP.
        steps: First step sizes of the search, for as many scales as the line may have: `STEPS`
            multiples of each are tried.
        enough: The gap at which the search ends.

    Returns:
        The slope; of none that is trusted, one that is not sure.
    """
    found = dict[float, Slope]()
    for h in _in_turn(steps, found, line):
        if h in found:
            continue
        made = line.difference(h, claimed)
        if not math.isfinite(made.unsure):
            continue
        found[h] = made
        if made.size and made.sure and made.gap <= enough:
            return made
    if not found:
        return Slope(math.nan, math.inf, claimed)
    if not any(each.size for each in found.values()):
        return next(iter(found.values()))
    trusted = _trusted(found)
    if not trusted:
        best = min(found.values(), key=_share)
        return best._replace(unsure=max(best.unsure, abs(best.fine))) if best.sure else best
    h = min(trusted, key=lambda h: trusted[h].gap)
    return trusted[h]._replace(jump=line.jump(h)) if trusted[h].gap > enough else trusted[h]


def _in_turn(steps: Sequence[float], found: dict[float, Slope], line: Line) -> Iterator[float]:
    """List the step sizes to try, given what those before have found."""
    for step in steps:
        for multiple in STEPS:
            yield multiple * step
            tried = found.get(multiple * step)
            if tried is not None and not tried.size:
                break  # Flat at this scale; perhaps it is not at another.
    for _ in range(FURTHER):
        if not any(each.size for each in found.values()) or _trusted(found):
            return
        best = min(found, key=lambda h: _share(found[h]))
        rounded = line.rounding / best > 0.5 * found[best].unsure
        following = max(found) * STRIDE if rounded else min(found) / STRIDE
        if following > FURTHEST * max(steps):
            return
        yield following


def _trusted(found: dict[float, Slope]) -> dict[float, Slope]:
    """Return the differences that are sure, and that another one agrees with."""

    def agree(one: Slope, other: Slope) -> bool:
        vague = not other.sure and other.unsure > PEER * abs(other.fine)
        return not vague and abs(one.fine - other.fine) <= 2 * (one.unsure + other.unsure)

    return {
        h: each
        for h, each in found.items()
        if each.sure
        and each.size
        and any(agree(each, other) for there, other in found.items() if there != h)
    }


def _share(each: Slope) -> float:
    """Return how unsure a slope is, relative to itself."""
    return each.unsure / abs(each.fine) if each.fine else math.inf
