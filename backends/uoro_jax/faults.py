"""Steps that are not finite, under any transformation of JAX: counted, masked, and told later."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from uoro.errors import NonFiniteError
from uoro_jax.trees import coordinates_of, widen

FOLDS, LARGE = 3, 256
"""How often a leaf is folded before it is summed, and from which size on."""

OnNonfinite: TypeAlias = Literal["raise", "skip", "reset"]
WHAT = "the loss, the gradient, the next state or the influence estimate"
HELD = (
    "A compiled program cannot raise: what came after is not finite, params included. Go on from "
    "params and carry of an earlier time."
)


class Carry(NamedTuple):
    """What goes from one step to the next: a pytree.

    Attributes:
        state: Hidden state of the model.
        influence: Estimate of the influence, the sensitivity of the hidden state to the
            parameters: for UORO a pair (s̃, θ̃). Whatever the estimator carries.
        faults: Count of the steps that were skipped; ``None`` where none can be.
    """

    state: Any
    influence: Any
    faults: Faults | None = None


class Faults(NamedTuple):
    """Count of the steps that were not finite, and were skipped.

    Attributes:
        steps: Number of steps.
        skipped: Number of those that were skipped.
        first: Index of the first that was; -1 if there is none.
    """

    steps: Any
    skipped: Any
    first: Any

    @classmethod
    def none(cls, choice: OnNonfinite) -> Faults | None:
        """Return the count before the first step; ``None`` where no step is skipped."""
        return None if choice == "raise" else cls(jnp.int32(0), jnp.int32(0), jnp.int32(-1))


def judge(choice: OnNonfinite, call: str, before: Carry, after: Carry, made: Any) -> Any:
    """Return the carry to go on with, and whether the gradient of the step counts.

    Args:
        choice: What to do; see `uoro_jax.online`.
        call: The call that an error names.
        before: Carry before the step.
        after: Carry after it.
        made: Loss and gradient of the step, if it has them.

    Raises:
        NonFiniteError: If the step is not finite, the choice is to raise, and JAX traces nothing.
    """
    after = after._replace(faults=before.faults)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((after, made)))
    if choice == "raise" and traced:
        return after, None
    state_fits = _finite(after.state, before.state)
    # A pair whose θ̃ is not finite has no finite s̃ either, which is shorter.
    influence = getattr(after.influence, "tangent", after.influence)
    fits = state_fits & jnp.isfinite(_sum((made, influence)))
    if choice == "raise":
        if not bool(jnp.all(fits)):
            held = "Nothing was returned: go on with the carry from before the step."
            raise NonFiniteError(call, None, WHAT, math.nan, held=held)
        return after, None
    state, carried = _chosen(fits, after[:2], before[:2])
    if choice == "reset":
        state = _chosen(state_fits, after.state, before.state)
        carried = _chosen(fits, after.influence, jax.tree.map(jnp.zeros_like, before.influence))
    faults = before.faults
    if faults is not None:
        first = jnp.where(~fits & (faults.first < 0), faults.steps, faults.first)
        faults = Faults(faults.steps + 1, faults.skipped + (1 - fits.astype(jnp.int32)), first)
    return Carry(state, carried, faults), fits


def masked(counts: Any, gradient: Any) -> Any:
    """Return a gradient where it counts, zero elsewhere; all of it if ``counts`` is ``None``."""
    if counts is None:
        return gradient
    return jax.tree.map(lambda leaf: jnp.where(counts, leaf, jnp.zeros_like(leaf)), gradient)


def masked_unless_finite(choice: OnNonfinite, gradient: Any) -> Any:
    """Return a gradient, and zero where steps are skipped and it is not finite."""
    return masked(None if choice == "raise" else jnp.isfinite(_sum(gradient)), gradient)


def require_finite(carry: Carry, losses: Any) -> None:
    """Raise if what a compiled run returned is not finite.

    Raises:
        NonFiniteError: If so, with the index of the first loss that is not finite.
    """
    call = "OnlineGradient.check(carry, losses)"
    hint = "Mend the stream, try a smaller learning rate, or on_nonfinite='skip'."
    if losses is not None:
        bad = np.flatnonzero(~np.isfinite(np.asarray(losses)).reshape(len(losses), -1).all(1))
        if bad.size:
            index = int(bad[0])
            raise NonFiniteError(call, index, "the loss", math.nan, held=HELD, hint=hint)
    # A mask in the state may be infinite.
    lost = any(bool(jnp.isnan(leaf).any()) for leaf in _moving(carry.state))
    if lost or any(not bool(jnp.isfinite(leaf).all()) for leaf in _moving(carry.influence)):
        what = "the state" if lost else "the influence estimate"
        raise NonFiniteError(call, None, what, math.nan, held=HELD, hint=hint)


def _moving(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if coordinates_of(leaf)]


def _finite(tree: Any, before: Any = None) -> Any:
    """Return whether all numbers of a tree are finite, but for those that were not before."""
    olds: Any = jax.tree.leaves(tree if before is None else before)
    flags = []
    for leaf, old in zip(jax.tree.leaves(tree), olds, strict=True):
        if coordinates_of(leaf):
            flag = jnp.isfinite(leaf)
            flags.append((flag if before is None else flag | ~jnp.isfinite(old)).all())
    return reduce(jnp.logical_and, flags, jnp.bool_(True))


def _sum(tree: Any) -> Any:
    """Return a sum that is finite where all numbers are; on a CPU, of leaves folded in half."""
    total = jnp.float32(0)
    for leaf in jax.tree.leaves(tree):
        if not coordinates_of(leaf):
            continue
        array = widen(jnp.asarray(leaf)).reshape(-1)
        for _ in range(FOLDS if array.size >= LARGE else 0):
            half, odd = divmod(array.size, 2)
            if not odd:
                array = array[:half] + array[half:]
        found = jnp.sum(array)
        total = total + (jnp.abs(found) if jnp.iscomplexobj(found) else found)
    return total


def _chosen(flag: Any, tree: Any, other: Any) -> Any:
    return jax.tree.map(lambda one, two: jnp.where(flag, one, two), tree, other)
