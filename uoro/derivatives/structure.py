"""The structure of a model's immediate Jacobian ∂s'/∂θ, leaf by leaf of the params."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from uoro.algebra import repeat, shift
from uoro.arguments import leaf_name
from uoro.backend import Backend, Coarsens
from uoro.derivatives.differences import UNIT, precision_of
from uoro.derivatives.found import found_once
from uoro.dynamics import Dynamics
from uoro.errors import DerivativeError

Kind: TypeAlias = Literal["outer", "exact", "none", "dense"]
"""Structure of the immediate Jacobian of a leaf:

- ``"outer"``: ``D ⊗ a``, one matrix D of n rows times one vector a, as of a weight matrix that is
  used once a step, in ``z = W a``: D is ∂s'/∂z.
- ``"exact"``: no more numbers than D has, as of a bias, a gain or a decay.
- ``"none"``: zero, as of a readout, which does not reach the state.
- ``"dense"``: none of these, as of a matrix that is used several times a step.
"""

COTANGENTS = 4
"""Number of cotangents that are pulled back at each probe point."""

ROUNDING = 4096
"""Largest relative deviation that counts as rounding, in units of it.

A compiler may compute one factor twice, by programs of its own: where 1 - tanh² is near zero, both
have lost most of their digits (XLA without optimization: 400 units on a small tanh network).
"""

COARSE = 0.1
"""Largest relative deviation that counts as rounding in any dtype, however narrow."""

NUDGES = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.0), (0.2, 0.5, 0.0), (0.1, 0.7, 0.5))
"""How far the probe points are from the given one: in params, state and inputs."""


class LeafStructure(NamedTuple):
    """The structure of the immediate Jacobian of one leaf.

    Attributes:
        name: Path of the leaf.
        shape: Shape of the leaf.
        kind: The structure.
        inputs: Axes of the leaf that a has, if the kind is ``"outer"``; D has the others.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    inputs: tuple[int, ...] = ()

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a row of D: that of the leaf, with ones in place of the axes of a."""
        return tuple(1 if i in self.inputs else size for i, size in enumerate(self.shape))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a: that of the leaf, with ones in place of the axes of D."""
        return tuple(size if i in self.inputs else 1 for i, size in enumerate(self.shape))

    def describe(self) -> str:
        """Return the structure in one line."""
        place, shape = leaf_name(self.name), " × ".join(map(str, self.shape)) or "scalar"
        if self.kind == "outer":
            outputs, inputs = math.prod(self.output_shape), math.prod(self.input_shape)
            return f"{place} ({shape}): outer product, D of n × {outputs} and a of {inputs}."
        said = {
            "exact": "few numbers, carried exactly.",
            "none": "does not reach the state.",
            "dense": "no structure.",
        }
        return f"{place} ({shape}): {said[self.kind]}"


@dataclass(frozen=True)
class Structure:
    """The structure of an immediate Jacobian.

    Attributes:
        leaves: One entry for each leaf of the params, in the backend's order.
        groups: Names of leaves that share D; see `uoro.derivatives.sharing`.
    """

    leaves: tuple[LeafStructure, ...]
    groups: tuple[tuple[str, ...], ...] = ()

    def __iter__(self) -> Iterator[LeafStructure]:
        return iter(self.leaves)

    def describe(self) -> str:
        """Return the structure, one line for each leaf and each group."""
        together = [f"{listed(group)} share D." for group in self.groups]
        return "\n".join([*(leaf.describe() for leaf in self.leaves), *together])

    def members(self, group: tuple[str, ...]) -> list[LeafStructure]:
        """Return the leaves of a group."""
        return [leaf for name in group for leaf in self.leaves if leaf.name == name]


def listed(names: tuple[str, ...]) -> str:
    """Return the names of several leaves, as part of a sentence."""
    quoted = [repr(name) for name in names]
    return f"leaves {', '.join(quoted[:-1])} and {quoted[-1]}"


def rounding(backend: Backend, *trees: Any) -> float:
    """Return the largest relative deviation that counts as rounding in the dtypes of trees."""
    unit = UNIT[precision_of(backend, *trees) or "float32"]
    if isinstance(backend, Coarsens):
        unit = max(unit, backend.coarser_unit())
    return min(ROUNDING * unit, COARSE)


@found_once
def find_structure(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any
) -> Structure:
    """Find the structure of a model's immediate Jacobian, from a few pullbacks.

    Several points are judged together: the one given, and points at a distance from it, because
    gates that are shut, units that are off and weights of zero hide structure. While a compiler or
    a map traces, the points are random. Found once for each model and its shapes.

    Args:
        dynamics: The model.
        params: θ.
        state: Hidden state of one stream.
        inputs: One item of the stream.

    Raises:
        DerivativeError: If no derivative at any of the points is finite.
    """
    backend = dynamics.backend
    leaves = [(name, tuple(leaf.shape)) for name, leaf in backend.named_leaves(params)]
    splits = [_splits(shape) for _, shape in leaves]
    look = backend.compile(partial(_looks, dynamics, splits))
    allowed = rounding(backend, params, state)
    reaches, fits = [False] * len(leaves), [set(every) for every in splits]
    seen = False
    for number, nudges in enumerate(NUDGES):
        sizes, gaps = look((params, state, inputs), nudges, float(number))
        sizes = [float(size) for size in sizes]
        if not all(map(math.isfinite, sizes)):
            continue
        seen = True
        for i, of_splits in enumerate(gaps):
            reaches[i] = reaches[i] or sizes[i] > 0
            fits[i] -= {
                split
                for split, gap in zip(splits[i], of_splits, strict=True)
                if not float(gap) <= allowed
            }
    if not seen:
        raise DerivativeError(
            "find_structure(dynamics, params, state, inputs): expected finite derivatives of the "
            "next state, got none at any probe point. Check params, state and inputs."
        )
    found = zip(leaves, splits, reaches, fits, strict=True)
    return Structure(
        tuple(_leaf(*leaf, every, reached, fit) for leaf, every, reached, fit in found)
    )


def _leaf(
    name: str,
    shape: tuple[int, ...],
    splits: list[tuple[int, ...]],
    reaches: bool,
    fits: set[tuple[int, ...]],
) -> LeafStructure:
    if not reaches:
        return LeafStructure(name, shape, "none")
    if not splits:
        return LeafStructure(name, shape, "exact")
    if not fits:
        return LeafStructure(name, shape, "dense")

    def outputs(split: tuple[int, ...]) -> int:
        return math.prod(size for i, size in enumerate(shape) if i not in split)

    best = min((split for split in splits if split in fits), key=outputs)
    return LeafStructure(name, shape, "outer", best)


def _splits(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """List the axes that a may have: the last ones, or the first ones; none of a vector."""
    axes = range(len(shape))
    cuts = [
        cut
        for cut in range(1, len(shape))
        if min(math.prod(shape[:cut]), math.prod(shape[cut:])) > 1
    ]
    return [tuple(axes[cut:]) for cut in cuts] + [tuple(axes[:cut]) for cut in cuts]


def _looks(
    dynamics: Dynamics[Any, Any, Any],
    splits: list[list[tuple[int, ...]]],
    point: tuple[Any, Any, Any],
    nudges: tuple[float, float, float],
    salt: float,
) -> tuple[list[Any], list[list[Any]]]:
    """Return the largest entry of each leaf's derivatives, and its distance from each split.

    Args:
        dynamics: The model.
        splits: The axes that a may have, for each leaf.
        point: Params, state and inputs.
        nudges: How far from the point to look.
        salt: Another number for each look.
    """
    backend = dynamics.backend
    params, state, inputs = (
        shift(backend, tree, nudge, numbers_like(backend, tree, salt + 1.0))
        for tree, nudge in zip(point, nudges, strict=True)
    )
    _, pullback = dynamics.vjp(params, state, inputs)
    drawn = numbers_like(backend, repeat(backend, backend.zeros(state), COTANGENTS), 0.0)
    pulled = backend.vmap(lambda row: pullback(row, None)[0])(drawn)
    leaves = [leaf for _, leaf in backend.named_leaves(pulled)]
    sizes = [backend.xp.max(backend.xp.abs(leaf)) for leaf in leaves]
    gaps = [
        [factor(backend.xp, leaf, split)[2] for split in every]
        for leaf, every in zip(leaves, splits, strict=True)
    ]
    return sizes, gaps


def factor(xp: Any, stack: Any, inputs: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Factor a stack of arrays into ``D ⊗ a``.

    a has the direction of the row of largest norm, and length 1; D is the stack times a.

    Args:
        xp: Array functions of the framework.
        stack: A stack of n arrays.
        inputs: Axes of an array that a has: the first ones or the last ones.

    Returns:
        D and a, with axes of length one where the other has its own; and the largest entry of
        what they leave over, relative to the largest entry of the stack.
    """
    shape = tuple(stack.shape[1:])
    outputs = [i for i, size in enumerate(shape) if i not in inputs and size > 1]
    first = bool(outputs) and max(inputs) < min(outputs)  # Axes of length 1 may be in neither.
    q = math.prod([shape[i] for i in inputs])
    rows = stack.reshape((stack.shape[0], q, -1) if first else (stack.shape[0], -1, q))
    rows = xp.swapaxes(rows, 1, 2) if first else rows
    rows = rows.reshape((-1, q))
    squares = (xp.abs(rows) ** 2).sum(1)
    longest = xp.argmax(squares).reshape((1,))
    length = squares[longest][0] ** 0.5
    a = rows[longest][0] / xp.where(length > 0, length, 1.0)
    d = rows @ xp.conj(a)
    largest = xp.max(xp.abs(rows))
    over = xp.max(xp.abs(rows - d[:, None] * a[None, :]))
    gap = over / xp.where(largest > 0, largest, 1.0)
    laid = LeafStructure("", shape, "outer", inputs)
    return (
        d.reshape((stack.shape[0], *laid.output_shape)),
        a.reshape(laid.input_shape),
        gap,
    )


def numbers_like(backend: Backend, tree: Any, salt: Any) -> Any:
    """Build a tangent of numbers within ±1 without a pattern; no generator is used.

    A map over streams would refuse a generator.
    """
    xp, count = backend.xp, 0

    def fill(zero: Any) -> Any:
        nonlocal count
        count += 1
        index = xp.arange(math.prod(zero.shape)) * 1.0
        phase = 7.1 * count + 1.3 * salt
        values = xp.sin(phase + index * (index * 0.7548776 + 1.618034 + salt))
        values = backend.from_host(values.reshape(tuple(zero.shape)))
        return values * (1.0 + 0.5j) if backend.parts(zero) == 2 else values

    return backend.map(fill, backend.zeros(tree))
