"""The Jacobians of one step: of the next state in the state, and in each leaf of the params.

One step maps the state s, n coordinates, to s' = F(x, s, θ). Pulling the n unit cotangents of s'
back gives the rows of J = ∂s'/∂s and of the immediate Jacobian ∂s'/∂θ, the derivative in the
params as they are used within this step. A weight matrix W that is used once, in z = W a, has

    ∂s'_k/∂W_ij = D_ki a_j,      D = ∂s'/∂z,

through everything that follows z within the step. Hence its immediate Jacobian is known by two
factors, D of n rows and a. `uoro.derivatives.structure` finds which leaves have such factors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from uoro.algebra import basis, coordinates, in_full
from uoro.backend import Backend, FindsFactors, Tree
from uoro.derivatives.routes import is_concrete
from uoro.derivatives.structure import LeafStructure, Structure, factor, listed, rounding
from uoro.dynamics import Dynamics, Outcome, Pullback
from uoro.errors import DerivativeError


class Immediate(NamedTuple):
    """The immediate Jacobian of one leaf, ``left * right``.

    Attributes:
        left: n rows, each shaped like the leaf; or D, with ones in place of the axes of a.
        right: a, with ones in place of the axes of D; ``None`` stands for the number 1.
    """

    left: Any
    right: Any = None

    def whole(self) -> Any:
        """Return the n rows, multiplied out."""
        return self.left if self.right is None else self.left * self.right[None]


class Jacobians(NamedTuple):
    """The Jacobians of one step.

    Attributes:
        outcome: Next state and loss.
        pullback: Pullback of the step, for the gradient of the loss within the step.
        state: J, shape (n, n).
        params: The immediate Jacobian, one entry for each leaf; ``None`` where the leaf does not
            reach the state.
        sound: Whether each leaf has the structure that it is said to have: a boolean that a
            compiler may trace, or true where that is certain.
    """

    outcome: Outcome[Any]
    pullback: Pullback[Any, Any]
    state: Any
    params: list[Immediate | None]
    sound: Any

    def unless_broken(self, backend: Backend, tree: Tree) -> Tree:
        """Return a tree, or NaN in its place if a leaf of the params has lost its structure."""
        return if_sound(backend, self.sound, tree)


def if_sound(backend: Backend, sound: Any, tree: Tree) -> Tree:
    """Return a tree, or NaN in its place where a boolean, which a compiler may trace, is false."""
    if sound is True:
        return tree

    def keep(leaf: Any) -> Any:
        return backend.xp.where(sound, leaf, float("nan")) if backend.parts(leaf) else leaf

    return backend.map(keep, tree)


def take_jacobians(
    dynamics: Dynamics[Any, Any, Any], structure: Structure, params: Any, state: Any, inputs: Any
) -> Jacobians:
    """Compute the Jacobians of one step, by n pullbacks.

    That each leaf has the structure that was found is checked at every step. Where a compiler
    traces, an error cannot be raised: `Jacobians.sound` tells.

    Cost: n VJPs. A backend that `FindsFactors`, as JAX's does, never writes the immediate Jacobian
    of an ``"outer"`` leaf; on others n copies of the params are written.

    Args:
        dynamics: The model.
        structure: What `find_structure` found.
        params: θ.
        state: Hidden state.
        inputs: One item of the stream.

    Raises:
        DerivativeError: If a leaf does not have the structure that was found.
    """
    backend = dynamics.backend
    outcome, pullback = dynamics.vjp(params, state, inputs)

    def rows() -> Any:
        return backend.vmap(lambda row: pullback(row, None))(basis(backend, state))

    pieces: list[Any] = [None] * len(structure.leaves)
    if isinstance(backend, FindsFactors):
        (by_params, by_state), found = backend.factors(rows)
        pieces = found[: len(pieces)]
    else:
        by_params, by_state = rows()
    leaves = [leaf for _, leaf in backend.named_leaves(by_params)]
    allowed = rounding(backend, params, state)
    with in_full(backend):
        looks = [
            _immediate(backend.xp, *each) for each in zip(structure, leaves, pieces, strict=True)
        ]
    fresh, gaps = [found for found, _ in looks], [gap for _, gap in looks]
    apart: list[Any] = []  # `list[Any]()` is no call that torch.compile follows.
    for group in structure.groups:
        places = [i for name in group for i, leaf in enumerate(structure) if leaf.name == name]
        given = [each for each in (fresh[i] for i in places) if each is not None]
        shared, gap = share_left(backend.xp, structure.members(group), given)
        apart.append(gap)
        for i, member in zip(places, shared, strict=True):
            fresh[i] = member
    sound: Any = True
    if any(gap is not None for gap in gaps + apart):
        if is_concrete(dynamics, (params, state, inputs)):
            _require_structure(structure, gaps, allowed)
            _require_sharing(structure, apart, allowed)
        else:
            for gap in gaps + apart:
                sound = sound if gap is None else sound & (gap <= allowed)
    return Jacobians(outcome, pullback, coordinates(backend, by_state), fresh, sound)


def share_left(
    xp: Any, leaves: list[LeafStructure], fresh: list[Immediate]
) -> tuple[list[Immediate], Any]:
    """Write several immediate Jacobians with one left factor D, the longest of theirs.

    Args:
        xp: Array functions of the framework.
        leaves: Structure of each leaf.
        fresh: Immediate Jacobian of each leaf.

    Returns:
        The immediate Jacobians, each with D, shaped for its leaf, and a factor of its own; and the
        largest entry of what is left over, relative to the leaf's largest; ``None`` if D is the
        same array.
    """
    ones = [xp.ones_like(each.left[:1].reshape(-1)[:1]) for each in fresh]
    rights = [
        one.reshape(leaf.input_shape) if each.right is None else each.right
        for leaf, each, one in zip(leaves, fresh, ones, strict=True)
    ]
    lefts = [each.left.reshape((each.left.shape[0], -1)) for each in fresh]
    weights: list[Any] = [1.0] * len(fresh)
    longest, gap = lefts[0], None
    if any(each.left is not fresh[0].left for each in fresh):
        together = xp.stack(lefts)
        squares = (together * together).sum((1, 2))
        place = xp.argmax(squares).reshape((1,))
        longest, square = together[place][0], squares[place][0]
        weights = [(left * longest).sum() / xp.where(square > 0, square, 1.0) for left in lefts]
        over = [
            xp.max(xp.abs(left - weight * longest))
            for left, weight in zip(lefts, weights, strict=True)
        ]
        sizes = [xp.max(xp.abs(left)) for left in lefts]
        gap = xp.max(
            xp.stack(
                [o / xp.where(size > 0, size, 1.0) for o, size in zip(over, sizes, strict=True)]
            )
        )
    n = longest.shape[0]
    return [
        Immediate(longest.reshape((n, *leaf.output_shape)), weight * right)
        for leaf, weight, right in zip(leaves, weights, rights, strict=True)
    ], gap


def _require_sharing(structure: Structure, gaps: list[Any], allowed: float) -> None:
    """Raise for leaves that do not share D."""
    for group, gap in zip(structure.groups, gaps, strict=True):
        if gap is not None and float(gap) > allowed:
            raise DerivativeError(
                f"transition(params, state, inputs): {listed(group)}: expected them to move the "
                "next state through one sum, as at the model check, got derivatives that are "
                f"{float(gap):.2g} apart. Try KroneckerSum(group=False)."
            )


def _immediate(xp: Any, leaf: LeafStructure, rows: Any, piece: Any) -> tuple[Immediate | None, Any]:
    """Return the immediate Jacobian of a leaf, and how far it is from its structure, if at all."""
    if leaf.kind == "none":
        if piece == ():
            return None, None
        largest = xp.max(xp.abs(rows))
        return None, xp.where(largest == 0, 0.0 * largest, 1.0 + 0.0 * largest)
    if leaf.kind != "outer":
        return Immediate(rows), None
    n = rows.shape[0]
    shapes = (n, *leaf.output_shape), (1, *leaf.input_shape)
    for left, right in (piece, piece[::-1]) if piece else ():
        if (tuple(left.shape), tuple(right.shape)) == shapes:
            return Immediate(left, right[0]), None
    left, right, gap = factor(xp, rows, leaf.inputs)
    return Immediate(left, right), gap


def _require_structure(structure: Structure, gaps: list[Any], allowed: float) -> None:
    """Raise for a leaf that does not have its structure."""
    for leaf, gap in zip(structure, gaps, strict=True):
        if gap is None or float(gap) <= allowed or float(gap) != float(gap):
            continue
        expected, got = {
            "none": ("a leaf that does not reach the next state", "a derivative that is not zero"),
        }.get(
            leaf.kind,
            (
                "an outer product as its immediate Jacobian, as at the model check",
                f"one that is {float(gap):.2g} away from it",
            ),
        )
        raise DerivativeError(
            f"transition(params, state, inputs): {leaf.describe().partition(':')[0]}: expected "
            f"{expected}, got {got}. The model uses its params in another way than where it was "
            "checked. Build the estimator's carry anew by init(...), at such an item."
        )
