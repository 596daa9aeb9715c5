"""Draws for a second estimator, independent of the first one's and leaving those as they are."""

from __future__ import annotations

import math
from typing import Any

from uoro.backend import Distribution, Tree
from uoro.errors import SettingError
from uoro.estimator import Estimator, Sampler


def draws(estimator: Estimator) -> bool:
    """Tell whether an estimator draws any noise."""
    asked: list[Distribution] = []

    def sampler(
        like: Tree, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0, /
    ) -> Tree:
        asked.append(distribution)
        return like

    estimator.draw(sampler, ())
    return bool(asked)


def draw_both(first: Estimator, second: Estimator, sampler: Sampler, state: Any) -> tuple[Any, Any]:
    """Draw the noise of two estimators from one sampler.

    A sampler gives the same numbers whenever it is asked for the same, and two estimators that ask
    it alike would get the same noise. What the first gets is what it has alone. The second asks for
    its noise several times over in one call, and keeps the last, which lies beyond all that the
    first has had: coordinates of one call are independent, and those at the beginning of a longer
    draw are those of a shorter one, in every bundled backend as in `uoro.learning.host_noise`.

    Raises:
        SettingError: If they draw from different laws, which take unequal shares of random bits.
    """
    asked, laws = [(0, 1)], set[Distribution]()

    def counting(
        like: Any, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0, /
    ) -> Any:
        laws.add(distribution)
        asked.append((_copies(like), math.prod(batch)))
        return sampler(like, distribution, batch, stacked)

    def beyond(
        like: Any, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0, /
    ) -> Any:
        if laws - {distribution}:
            raise SettingError(
                f"Shadowed(estimator, shadow): the estimator draws from {laws.pop()!r}, its shadow "
                f"from {distribution!r}. Give both one law."
            )
        # Counted in leaves drawn too: where each takes whole words of random bits, a large one does
        # not make up for several small ones.
        leaves = max(copies * _parts(wide, math.prod(batch)) for copies, wide in asked)
        skipped = _parts(leaves, _copies(like))
        copies = {_name(i): like for i in range(skipped + 1)}
        return sampler(copies, distribution, batch, stacked)[_name(skipped)]

    return first.draw(counting, state), second.draw(beyond, state)


def _name(number: int) -> str:
    """Name a copy, so that names are in the order of numbers however a framework sorts them."""
    return f"copy {number:06d}"


def _copies(like: Any) -> int:
    """Count how many states a tree is: `beyond` of a shadow within a shadow asks for several."""
    if isinstance(like, dict) and _name(0) in like:
        return sum(_copies(part) for part in like.values())
    return 1


def _parts(whole: int, part: int) -> int:
    """Divide, and round up."""
    return -(-whole // part)
