"""Compiled chunks: many steps as one loop, and the search for the step that fails in one."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from uoro.algebra import entry
from uoro.learning.carry import Progress
from uoro.learning.update import Clock, Update


class Items(NamedTuple):
    """The items of a chunk, each a stack as long as the compiled loop.

    Attributes:
        inputs: Items of the stream.
        signs: Random signs of each step; ``None`` to draw them within the loop.
        indices: 0, 1, ….
    """

    inputs: Any
    signs: Any
    indices: Any


class Attempt(NamedTuple):
    """Steps that were taken, but are not kept yet.

    Attributes:
        after: Progress after the last of them.
        losses: Loss of each.
        finite: Whether all losses and the norm of the parameters are finite.
    """

    after: Progress
    losses: list[float]
    finite: bool


class Chunks:
    """Run chunks of steps as one compiled loop.

    Args:
        update: One step.
        donate: Whether the loop may overwrite the arrays that a chunk starts from. There is then
            no way back over a step that fails.
    """

    def __init__(self, update: Update, *, donate: bool) -> None:
        self._backend = update.backend
        self._donates = donate
        self._advance = self._backend.compile(update.advance_chunk, donate=donate)

    def fill(self, inputs: Any, signs: Any, got: int, length: int) -> Items:
        """Return items filled up to the length of the compiled loop by repeating the last.

        One length for all chunks is one loop to compile, which rounds alike in all of them.

        Args:
            inputs: Stack of items.
            signs: Stack of signs, or ``None``.
            got: Number of items.
            length: Number of steps in the loop.
        """
        indices = self._backend.xp.arange(length)
        if got == length:
            return Items(inputs, signs, indices)
        repeated = self._backend.collect([min(i, got - 1) for i in range(length)])
        inputs = entry(self._backend, inputs, repeated)
        return Items(
            inputs, None if signs is None else entry(self._backend, signs, repeated), indices
        )

    def advance(self, now: Progress, items: Items, clock: Clock, first: int, end: int) -> Attempt:
        """Attempt the items from ``first`` up to ``end``, or as many of them as are finite.

        Args:
            now: Progress before the first of them.
            items: Items from `fill`.
            clock: Clock of the first of them.
            first: Index of the first.
            end: Index after the last.

        Returns:
            Steps that are finite; or where the first step is not, or with ``donate`` one of them is
            not, steps that are not.
        """
        clock = clock._replace(number=clock.number - first)
        attempt = self._attempt(now, items, clock, first, end)
        if attempt.finite or self._donates:
            return attempt
        # The loop does not say which step it was: narrow it down.
        losses = attempt.losses
        bad = next((first + i for i, x in enumerate(losses) if not math.isfinite(x)), end - 1)
        good, bad = first, bad + 1
        while bad - good > 1:
            middle = bad - 1 if bad == end else (good + bad) // 2
            if self._attempt(now, items, clock, first, middle).finite:
                good = middle
            else:
                bad = middle
        return self._attempt(now, items, clock, first, good) if good > first else attempt

    def _attempt(self, now: Progress, items: Items, clock: Clock, first: int, end: int) -> Attempt:
        after, done, size = self._advance(
            now, items.inputs, items.signs, clock, items.indices, (first, end)
        )
        losses: list[float] = self._backend.to_host(done).tolist()[first:end]
        finite = all(map(math.isfinite, losses)) and math.isfinite(float(size))
        return Attempt(after, losses, finite)
