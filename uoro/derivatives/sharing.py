"""Leaves of the params that share D = ∂s'/∂z, as the maps and the bias of one sum z do.

In ``z = W x + U h + b`` all three move the next state through z: their immediate Jacobians are
``D ⊗ x``, ``D ⊗ h`` and D itself. They are one matrix, ``D ⊗ (x, h, 1)``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from uoro.algebra import shift
from uoro.derivatives.found import found_once
from uoro.derivatives.jacobians import Immediate, share_left, take_jacobians
from uoro.derivatives.structure import (
    NUDGES,
    LeafStructure,
    Structure,
    find_structure,
    numbers_like,
    rounding,
)
from uoro.dynamics import Dynamics


@found_once
def find_sharing(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any
) -> Structure:
    """Find the structure of a model, and which leaves share D up to a factor.

    Judged at several points, as in `find_structure`. Complex leaves share nothing.

    Cost: n VJPs at each of four points, once.

    Args:
        dynamics: The model.
        params: θ.
        state: Hidden state of one stream.
        inputs: One item of the stream.

    Raises:
        DerivativeError: As `find_structure`.
    """
    backend = dynamics.backend
    structure = find_structure(dynamics, params, state, inputs)
    real = {name for name, leaf in backend.named_leaves(params) if backend.parts(leaf) == 1}
    kinds = [leaf for leaf in structure if leaf.kind in ("outer", "exact") and leaf.name in real]
    pairs = [
        (one, other)
        for i, one in enumerate(kinds)
        for other in kinds[i + 1 :]
        if math.prod(one.output_shape) == math.prod(other.output_shape)
    ]
    if not pairs:
        return structure
    look = backend.compile(partial(_looks, dynamics, structure, pairs))
    allowed = rounding(backend, params, state)
    apart, together = set[tuple[str, str]](), set[tuple[str, str]]()
    for number, nudges in enumerate(NUDGES):
        found = look((params, state, inputs), nudges, float(number))
        for (one, other), (size, gap) in zip(pairs, found, strict=True):
            if float(size) > 0:
                chosen = together if float(gap) <= allowed else apart
                chosen.add((one.name, other.name))
    return Structure(structure.leaves, _groups(kinds, together - apart))


def _groups(
    leaves: list[LeafStructure], together: set[tuple[str, str]]
) -> tuple[tuple[str, ...], ...]:
    """Return the groups of leaves that share D with the first of the group."""
    groups, taken = list[tuple[str, ...]](), set[str]()
    for leaf in leaves:
        if leaf.name in taken:
            continue
        group = [leaf, *(each for each in leaves if (leaf.name, each.name) in together)]
        group = [each for each in group if each.name not in taken]
        if len(group) > 1 and any(each.kind == "outer" for each in group):
            groups.append(tuple(each.name for each in group))
            taken.update(groups[-1])
    return tuple(groups)


def _looks(
    dynamics: Dynamics[Any, Any, Any],
    structure: Structure,
    pairs: list[tuple[LeafStructure, LeafStructure]],
    point: tuple[Any, Any, Any],
    nudges: tuple[float, float, float],
    salt: float,
) -> list[tuple[Any, Any]]:
    """Return, for each pair of leaves, the size of the smaller D and the distance of the two."""
    backend, xp = dynamics.backend, dynamics.backend.xp
    params, state, inputs = (
        shift(backend, tree, nudge, numbers_like(backend, tree, salt + 3.0))
        for tree, nudge in zip(point, nudges, strict=True)
    )
    model = take_jacobians(dynamics, structure, params, state, inputs)
    fresh = dict(zip([leaf.name for leaf in structure], model.params, strict=True))

    def look(one: LeafStructure, other: LeafStructure) -> tuple[Any, Any]:
        both = [found for found in (fresh[one.name], fresh[other.name]) if found is not None]
        size = xp.minimum(*(_size(xp, each) for each in both))
        gap = share_left(xp, [one, other], both)[1]
        return size, 0.0 * size if gap is None else gap

    return [look(*pair) for pair in pairs]


def _size(xp: Any, immediate: Immediate) -> Any:
    """Return the largest entry of an immediate Jacobian, in size."""
    largest = xp.max(xp.abs(immediate.left))
    return largest if immediate.right is None else largest * xp.max(xp.abs(immediate.right))
