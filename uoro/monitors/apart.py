"""Signs for a second estimator, independent of those of the first, which stay as they are."""

from __future__ import annotations

import math
from typing import Any

from uoro.arguments import mismatch
from uoro.backend import Distribution, Tree
from uoro.errors import SettingError
from uoro.estimator import Estimator, Sampler


def draws(estimator: Estimator) -> bool:
    """Return whether an estimator draws any signs."""
    asked: list[Distribution] = []

    def sampler(
        like: Tree, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0, /
    ) -> Tree:
        asked.append(distribution)
        return like

    estimator.draw(sampler, ())
    return bool(asked)


def draw_both(first: Estimator, second: Estimator, sampler: Sampler, state: Any) -> tuple[Any, Any]:
    """Draw the signs of two estimators from one sampler.

    A sampler returns equal numbers for equal requests, so two estimators with equal requests would
    get equal signs. The first estimator gets the signs that it would get alone. The second requests
    several copies of its signs in one call and keeps the last copy, which lies beyond all that the
    first has drawn: the coordinates of one call are independent, and a longer draw begins with the
    numbers of a shorter one, in every bundled backend and in `uoro.learning.host_noise`.

    Raises:
        SettingError: If the distributions differ, as distributions consume unequal shares of
            random bits.
    """
    asked, distributions = [(0, 1)], set[Distribution]()

    def counting(
        like: Any, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0, /
    ) -> Any:
        distributions.add(distribution)
        asked.append((_copies(like), math.prod(batch)))
        return sampler(like, distribution, batch, stacked)

    def beyond(
        like: Any, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0, /
    ) -> Any:
        if distributions - {distribution}:
            raise SettingError(
                mismatch(
                    "Shadowed(estimator, shadow)",
                    "",
                    "one distribution for both",
                    f"{distributions.pop()!r} and, for the shadow, {distribution!r}",
                )
            )
        # Leaves count too: where every leaf takes whole words of random bits, one large leaf
        # consumes less than several small ones.
        leaves = max(copies * _parts(wide, math.prod(batch)) for copies, wide in asked)
        skipped = _parts(leaves, _copies(like))
        copies = {_name(i): like for i in range(skipped + 1)}
        return sampler(copies, distribution, batch, stacked)[_name(skipped)]

    return first.draw(counting, state), second.draw(beyond, state)


def _name(number: int) -> str:
    """Return the name of a copy; names sort like numbers."""
    return f"copy {number:06d}"


def _copies(like: Any) -> int:
    """Return the number of states in a tree; shadows within shadows request several."""
    if isinstance(like, dict) and _name(0) in like:
        return sum(_copies(part) for part in like.values())
    return 1


def _parts(whole: int, part: int) -> int:
    """Return the quotient, rounded up."""
    return -(-whole // part)
