"""How the locality of a model is found: unit by unit products, at several points.

With w a number for each unit,

- units do not mix from coordinates l to coordinates j if ``J_jl (w ∘ v) = w ∘ J_jl v``;
- an entry of the params moves one unit u at most if a pullback of ``w ∘ v`` gives w_u times what
  one of v gives. With ``w_u = u`` the ratio tells u itself.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from uoro.algebra import coordinates, shaped, shift
from uoro.arguments import leaf_name
from uoro.backend import Backend
from uoro.derivatives.differences import UNIT, precision_of
from uoro.derivatives.found import found_once
from uoro.derivatives.locality import (
    SEVERAL,
    UNKNOWN,
    Colour,
    LeafLocality,
    Locality,
    Units,
    selector,
)
from uoro.derivatives.structure import NUDGES, numbers_like, rounding
from uoro.dynamics import Dynamics
from uoro.errors import DerivativeError

MOST = 16
"""Largest number of coordinates of a unit."""

NEAR = 0.25
"""Largest distance of a quotient from the number of a unit."""


@found_once
def find_locality(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any
) -> Locality:
    """Find the locality of a model, from a few JVPs and pullbacks at several points.

    All axes of a leaf of the state are tried as units first; then all but the last, whose entries
    are then coordinates of one unit, as in a block-diagonal recurrence. While a compiler or a map
    traces, the points are random. Found once for each model and its shapes.

    Args:
        dynamics: The model.
        params: θ.
        state: Hidden state of one stream.
        inputs: One item of the stream.

    Raises:
        DerivativeError: If no derivative at any of the points is finite.
    """
    point = params, state, inputs
    fine = _judge(dynamics, point, _colours(dynamics.backend, state, 0))
    blocks = _colours(dynamics.backend, state, 1)
    if not fine.mixes or len(blocks) in (len(fine.colours), 0) or len(blocks) > MOST:
        return fine
    coarse = _judge(dynamics, point, blocks)
    return fine if coarse.mixes else coarse


def _colours(backend: Backend, state: Any, inner: int) -> list[Colour]:
    """List the colours of a state whose last ``inner`` axes are within a unit."""
    colours, start = list[Colour](), 0
    leaves = [each for each in backend.named_leaves(state) if backend.parts(each[1])]
    for name, leaf in leaves:
        shape = tuple(leaf.shape)
        cut = max(len(shape) - inner, min(len(shape), 1))
        units, block = shape[:cut], math.prod(shape[cut:])
        count = math.prod(units)
        for part in range(backend.parts(leaf)):
            said = leaf_name(name) + ("" if backend.parts(leaf) == 1 else (".real", ".imag")[part])
            for i in range(block):
                columns = slice(start + i, start + i + (count - 1) * block + 1, block)
                colour = Colour(units, columns, said if block == 1 else f"{said}[{i}]")
                colours.append(colour)
            start += count * block
    return colours


def _judge(dynamics: Dynamics[Any, Any, Any], point: Any, colours: list[Colour]) -> Locality:
    """Return what several points, judged together, tell of each leaf."""
    backend = dynamics.backend
    params, state, inputs = point
    if UNIT[precision_of(backend, params, state) or "float32"] > UNIT["float32"]:
        # Too coarse to tell mixing from rounding.
        params, state = backend.from_host((params, state), dtype="float32")
        point = params, state, inputs
    allowed = rounding(backend, params, state)
    leaves = [(name, tuple(leaf.shape)) for name, leaf in backend.named_leaves(params)]
    look = backend.compile(partial(_look, dynamics, colours))
    acts, mixes = set[tuple[int, int]](), dict[tuple[int, int], float]()
    looks = [[_Moved() for _ in colours] for _ in leaves]
    seen = False
    for number, nudges in enumerate(NUDGES):
        weights, pushed, *pulled = backend.to_host(look(point, nudges, float(number)))
        if not all(math.isfinite(abs(array).sum()) for array in (pushed, *pulled)):
            continue
        seen = True
        for j, target in enumerate(colours):
            for source, colour in enumerate(colours):
                base, _, other = pushed[3 * source : 3 * source + 3, target.columns]
                if not (base != 0).any():
                    continue
                apart = 1.0
                if target.units == colour.units:
                    apart = _distance(other, weights[colour.columns] * base)
                if apart > allowed:
                    mixes[j, source] = max(apart, mixes.get((j, source), 0.0))
                acts.add((j, source))
        for (_, shape), array, moved in zip(leaves, pulled, looks, strict=True):
            three = array.reshape((-1, 3, *(shape or (1,))))
            for j, colour in enumerate(colours):
                moved[j].look(three[j], weights[colour.columns], allowed)
    if not seen:
        raise DerivativeError(
            "find_locality(dynamics, params, state, inputs): expected finite derivatives of the "
            "next state, got none at any probe point. Check params, state and inputs."
        )
    found = tuple(_leaf(*leaf, colours, moved) for leaf, moved in zip(leaves, looks, strict=True))
    width = max((colour.columns.stop for colour in colours), default=0)
    return Locality(tuple(colours), width, frozenset(acts - set(mixes)), mixes, found)


def _leaf(
    name: str, shape: tuple[int, ...], colours: list[Colour], moved: list[_Moved]
) -> LeafLocality:
    """Build the locality of a leaf from what was seen of it."""
    local = {j: each for j, each in enumerate(moved) if each.local}
    units = dict[int, Units]()
    for j in local:
        alike = [local[i] for i in local if colours[i].units == colours[j].units]
        units[j] = _Moved.together(alike).collapsed(shape)
    moves = {j: each.collapsed(shape) for j, each in local.items()}
    mixes = {j: each.mixing for j, each in enumerate(moved) if each.mixing}
    return LeafLocality(name, shape, moves, units, mixes)


def numbers(backend: Backend, count: int, salt: int, dtype: str) -> Any:
    """Return numbers of either sign, and of a size of 1/2 to 3/2, without a pattern.

    They are exact in float32, so that a compiler may compute them twice.
    """
    places = backend.xp.arange(count) + 1
    mixed = (places * (7919 + 104_728 * salt)) % 1021
    row = (0.5 + mixed / 1024.0) * backend.xp.where(mixed % 2 == 0, 1.0, -1.0)
    return backend.from_host(row, dtype=dtype)


def _distance(one: Any, other: Any) -> float:
    """Return the distance of two arrays, relative to the first."""
    size, apart = (math.sqrt((abs(each) ** 2).sum()) for each in (one, one - other))
    return apart / (size or 1.0)


def _look(
    dynamics: Dynamics[Any, Any, Any],
    colours: list[Colour],
    point: Any,
    nudges: tuple[float, float, float],
    salt: float,
) -> list[Any]:
    """Push three rows of each colour forward and pull them back, at a distance from a point.

    The rows are v, u ∘ v and w ∘ v, where u numbers the units from 1.

    Returns:
        w; the coordinates of the JVPs; then for each leaf of the params a stack of cotangents.
    """
    backend, xp = dynamics.backend, dynamics.backend.xp
    params, state, inputs = (
        shift(backend, tree, nudge, numbers_like(backend, tree, salt + 1.0))
        for tree, nudge in zip(point, nudges, strict=True)
    )
    zeros = backend.zeros(state)
    size = max((colour.columns.stop for colour in colours), default=0)
    places, dtype = xp.arange(size), precision_of(backend, params, state) or "float32"
    v, w = numbers(backend, size, 0, dtype), numbers(backend, size, 1, dtype)
    rows: list[Any] = []
    for colour in colours:
        own = xp.where(backend.from_host(selector(xp, colour, places)), v, 0.0)
        units = (places - colour.columns.start) // colour.columns.step + 1
        rows += [own, own * backend.from_host(units), own * w]
    given = shaped(backend, xp.stack(rows), zeros)
    _, pullback = dynamics.vjp(params, state, inputs)
    pushed = backend.vmap(lambda v: dynamics.jvp(params, state, inputs, v)[0])(given)
    pulled = backend.vmap(lambda v: pullback(v, None)[0])(given)
    return [w, coordinates(backend, pushed), *(leaf for _, leaf in backend.named_leaves(pulled))]


class _Moved:
    """Which unit of a colour each entry of a leaf moves, as seen so far, in arrays of the host.

    Attributes:
        mixing: The size of the mixing; zero if there is none.
    """

    def __init__(self) -> None:
        self.mixing = 0.0
        self._units: Any = None  # UNKNOWN where nothing was seen, SEVERAL where units mix.
        self._sure: Any = None  # Where that was seen of a large entry.

    @property
    def local(self) -> bool:
        """Whether any entry moves one unit alone."""
        return self._units is not None and bool((self._units >= 0).any())

    def look(self, pulled: Any, weights: Any, allowed: float) -> None:
        """Add what was pulled back of v, u ∘ v and w ∘ v at one point.

        A small entry may be what rounding left of a sum: its unit is a guess, which a large entry
        of another point corrects.
        """
        base, numbered, other = pulled
        largest = abs(base).max() if base.size else 0.0
        if not largest:
            return
        told, large = base != 0, abs(base) > allowed**0.5 * largest
        quotient = 0.0 * base.real
        quotient[told] = (numbered[told] / base[told]).real.clip(0, len(weights) + 1)
        units = quotient.round().astype(int) - 1
        near = (abs(quotient - quotient.round()) < NEAR) & (units >= 0) & (units < len(weights))
        wanted = weights[units * near] * base
        apart = abs(other - wanted) > allowed * abs(other).max()
        mixed = told & (apart & near | large & ~near)
        if mixed.any():
            self.mixing = max(self.mixing, _distance(other, wanted), allowed)
        units[mixed], units[~(told & near | mixed)] = SEVERAL, UNKNOWN
        sure = large | mixed
        if self._units is not None:
            before, known = self._units, (self._units != UNKNOWN)
            conflict = sure & self._sure & (before != units)
            keep = known & (self._sure | (units == UNKNOWN)) & ~conflict
            units[keep], units[conflict] = before[keep], SEVERAL
            self.mixing = max(self.mixing, allowed * bool(conflict.any()))
            sure = sure | self._sure
        self._units, self._sure = units, sure

    @staticmethod
    def together(several: list[_Moved]) -> _Moved:
        """Return the units that entries move in any of several colours; each moves one unit."""
        whole = _Moved()
        whole._units = several[0]._units
        for each in several[1:]:
            both = (whole._units >= 0) & (each._units >= 0) & (whole._units != each._units)
            if both.any():
                each.mixing = max(each.mixing, 1.0)
            highest = whole._units.clip(min=each._units)
            highest[both] = SEVERAL
            whole._units = highest
        return whole

    def collapsed(self, shape: tuple[int, ...]) -> Units:
        """Return the unit of each entry, with axes of length one along which it is the same."""
        units = self._units
        for axis in range(units.ndim):
            several = (units == SEVERAL).any(axis=axis, keepdims=True)
            top = units.max(axis=axis, keepdims=True)
            alike = (units == top) | (units == UNKNOWN)
            if alike.all() or ((several | alike).all() and not several.all()):
                units = top * ~several + SEVERAL * several
        return Units(
            tuple(units.clip(SEVERAL).reshape(-1).tolist()), tuple(units.shape) if shape else ()
        )
