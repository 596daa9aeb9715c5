"""The locality of a model: which units of the state each entry of the params moves within a step.

A *unit* is an entry of the leading axes that the leaves of the state share; it has a few
*coordinates*, such as c and h of an LSTM, or the real and the imaginary part of a complex unit. A
recurrence is element-wise if no unit moves another one within a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from uoro.arguments import leaf_name
from uoro.backend import Backend

SEVERAL, UNKNOWN = -1, -2
"""In place of the unit of an entry that moves several, and of one of which nothing was seen."""


class Units(NamedTuple):
    """The unit that each entry of a leaf moves.

    Attributes:
        numbers: Numbers of units; -1 for entries that move several, or none as far as was seen.
        shape: Their shape: that of the leaf, with ones in place of axes along which the unit is
            the same.
    """

    numbers: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def all_local(self) -> bool:
        """Whether no entry moves several units."""
        return min(self.numbers, default=0) >= 0


class Colour(NamedTuple):
    """One coordinate of all units of a leaf of the state.

    Attributes:
        units: Shape of the units.
        columns: The places of the coordinate among all coordinates of the state, unit by unit.
        name: Name of the coordinate.
    """

    units: tuple[int, ...]
    columns: slice
    name: str

    @property
    def total(self) -> int:
        """Number of units."""
        return math.prod(self.units)


@dataclass(frozen=True, eq=False)
class LeafLocality:
    """The locality of one leaf of the params.

    Attributes:
        name: Path of the leaf.
        shape: Shape of the leaf.
        moves: The colours that the leaf moves within a step, each with the units that its entries
            move.
        units: For each of these colours, the units that entries move in any colour of the same
            units: the output gate of an LSTM moves h alone, and c one step later.
        mixes: The colours of which some entries of the leaf move several units, each with the size
            of the mixing.
    """

    name: str
    shape: tuple[int, ...]
    moves: dict[int, Units]
    units: dict[int, Units]
    mixes: dict[int, float]


@dataclass(frozen=True, eq=False)
class Locality:
    """The locality of a model.

    Attributes:
        colours: The coordinates of a unit.
        size: Number of coordinates of the whole state, n.
        acts: Pairs of colours (j, l) such that coordinate l of a unit moves coordinate j of the
            same unit, and of no other.
        mixes: Pairs of colours of which units move other units, with the size of the mixing: the
            relative distance of ``J (w ∘ v)`` from ``w ∘ J v``.
        leaves: One entry for each leaf of the params, in the backend's order.
    """

    colours: tuple[Colour, ...]
    size: int
    acts: frozenset[tuple[int, int]]
    mixes: dict[tuple[int, int], float]
    leaves: tuple[LeafLocality, ...]

    def alike(self, j: int, other: int) -> bool:
        """Return whether two colours are of the same units."""
        return self.colours[j].units == self.colours[other].units

    def reached(self) -> set[int]:
        """Return the colours that params move, in one step or in several."""
        reached = {j for leaf in self.leaves for j in (*leaf.moves, *leaf.mixes)}
        return _closed(reached, [*self.acts, *self.mixes])

    @cached_property
    def own_pairs(self) -> frozenset[tuple[int, int]]:
        """The pairs of colours of the same units of which one moves the other, if also others."""
        pairs = self.acts | set(self.mixes)
        return frozenset(pair for pair in pairs if self.alike(*pair))

    def carried(self, leaf: LeafLocality) -> dict[int, Units]:
        """Return the colours that a leaf moves in one step or in several, each with its units."""
        units = dict(leaf.units)
        for _ in self.colours:
            for j, source in sorted(self.own_pairs):
                if source in units and j not in units:
                    units[j] = units[source]
        return dict(sorted(units.items()))

    def selectors(self, backend: Backend, dtype: str) -> Any:
        """Return a row of ones and zeros for each colour, a matrix of shape (colours, n)."""
        places = backend.xp.arange(self.size)
        rows = [selector(backend.xp, colour, places) for colour in self.colours]
        return backend.from_host(backend.xp.stack(rows) * 1.0, dtype=dtype)

    def describe(self) -> str:
        """Return the locality in words: the coordinates of a unit, then one line for each leaf."""
        lines = [f"A unit has the coordinates {', '.join(each.name for each in self.colours)}."]
        for (j, source), size in sorted(self.mixes.items()):
            names = self.colours[j].name, self.colours[source].name
            lines.append(f"Units mix from {names[1]} to {names[0]}: {size:.2g}.")
        for leaf in self.leaves:
            place = f"{leaf_name(leaf.name)} ({' × '.join(map(str, leaf.shape)) or 'scalar'})"
            if leaf.mixes:
                where = ", ".join(self.colours[j].name for j in leaf.mixes)
                some = "some entries move" if leaf.moves else "an entry moves"
                lines.append(f"{place}: {some} several units of {where}.")
            elif leaf.moves:
                where = ", ".join(self.colours[j].name for j in leaf.moves)
                lines.append(f"{place}: an entry moves one unit of {where}.")
            else:
                lines.append(f"{place}: does not reach the state.")
        return "\n".join(lines)


def selector(xp: Any, colour: Colour, places: Any) -> Any:
    """Return a row that is true at the places of a colour."""
    columns = colour.columns
    within = (places >= columns.start) & (places < columns.stop)
    return within & ((places - columns.start) % columns.step == 0)


def _closed(reached: set[int], pairs: list[tuple[int, int]]) -> set[int]:
    """Add all that is reached from what is reached already."""
    reached = set(reached)
    while more := {j for j, source in pairs if source in reached} - reached:
        reached |= more
    return reached
