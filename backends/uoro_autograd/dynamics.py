"""`Dynamics` of a transition written in autograd.numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import autograd.numpy
import numpy as np
import optree
from autograd import make_jvp
from autograd.builtins import tuple as boxed_tuple
from autograd.core import VJPNode, backward_pass
from autograd.tracer import getval, isbox, trace

from uoro.dynamics import Outcome, Pullback
from uoro.errors import StructureError
from uoro.transition import checked

if TYPE_CHECKING:
    from uoro_autograd.backend import AutogradBackend


anp: Any = autograd.numpy  # it makes its functions at run time, unseen by type checkers


class AutogradDynamics:
    """Forward, jvp and vjp by autograd, for trees of arrays.

    Args:
        backend: The backend of the arrays.
        transition: ``(params, state, inputs) -> (next_state, loss)`` in autograd.numpy.
        has_aux: Whether it returns a third element.
    """

    span = 1

    def __init__(
        self, backend: AutogradBackend, transition: Callable[..., Any], has_aux: bool
    ) -> None:
        self.backend = backend
        self._outcome = checked(transition, backend, has_aux=has_aux)

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Take one step."""
        return self._outcome(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Push a state tangent forward, through one flat vector of the state."""
        leaves, structure = optree.tree_flatten(state)

        def flat_step(vector: Any) -> Any:
            parts, start = [], 0
            for leaf in leaves:
                parts.append(vector[start : start + leaf.size].reshape(leaf.shape))
                start += leaf.size
            outcome = self._outcome(params, optree.tree_unflatten(structure, parts), inputs)
            return _flat([*optree.tree_leaves(outcome.next_state), outcome.loss])

        differentiate: Any = make_jvp(flat_step)
        tangent = _flat(optree.tree_leaves(state_tangent))
        _, pushed = differentiate(_flat(leaves))(tangent)
        pushed = anp.zeros(sum(leaf.size for leaf in leaves) + 1) + pushed
        tangents, start = [], 0
        for leaf in leaves:
            part = pushed[start : start + leaf.size].reshape(leaf.shape)
            tangents.append(part.astype(leaf.dtype))
            start += leaf.size
        return optree.tree_unflatten(structure, tangents), pushed[-1]

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Take one step on a tape that serves any number of pullbacks."""
        param_leaves, param_structure = optree.tree_flatten(params)
        state_leaves, state_structure = optree.tree_flatten(state)
        split, count = len(param_leaves), len(param_leaves) + len(state_leaves)
        taped: list[Any] = []

        def flat_step(leaves: Any) -> Any:
            each = [leaves[i] for i in range(count)]
            outcome = self._outcome(
                optree.tree_unflatten(param_structure, each[:split]),
                optree.tree_unflatten(state_structure, each[split:]),
                inputs,
            )
            next_leaves = boxed_tuple(optree.tree_leaves(outcome.next_state))
            taped.extend((next_leaves, outcome.loss, outcome.aux))
            return outcome.loss

        roots = (*param_leaves, *state_leaves)
        trace(VJPNode.new_root(), flat_step, roots)
        next_box, loss_box, aux = taped
        next_state = optree.tree_unflatten(state_structure, _unbox(next_box))
        loss = anp.asarray(_unbox(loss_box))

        def pullback(state_cotangent: Any, loss_cotangent: Any) -> tuple[Any, Any]:
            pulled = [anp.zeros_like(root) for root in roots]
            for box, cotangent in (
                (next_box, None if state_cotangent is None else _leaves(state_cotangent)),
                (loss_box, None if loss_cotangent is None else loss.dtype.type(loss_cotangent)),
            ):
                if cotangent is not None and isbox(box):
                    _require_shapes(cotangent, _unbox(box))
                    pulled = [a + b for a, b in zip(pulled, _pull(cotangent, box), strict=True)]
            return (
                optree.tree_unflatten(param_structure, pulled[:split]),
                optree.tree_unflatten(state_structure, pulled[split:]),
            )

        return Outcome(next_state, loss, _unbox(aux)), pullback


def _leaves(tree: Any) -> tuple[Any, ...]:
    return tuple(optree.tree_leaves(tree))


def _unbox(tree: Any) -> Any:
    """Take values off the tape: a box, or boxes anywhere in a tree."""
    return optree.tree_map(_value, _value(tree))


def _value(leaf: Any) -> Any:
    return getval(leaf) if isbox(leaf) else leaf


def _pull(cotangent: Any, box: Any) -> tuple[Any, ...]:
    """Go back from one output alone: the others are neither paid for nor multiplied by 0."""
    pulled: tuple[Any, ...] = backward_pass(cotangent, box._node)
    return pulled


def _require_shapes(cotangent: Any, output: Any) -> None:
    """Refuse a cotangent that autograd would broadcast against its output without a word."""
    for got, wanted in zip(_leaves(cotangent), _leaves(output), strict=True):
        if np.shape(got) != np.shape(wanted):
            raise StructureError(
                f"pullback(cotangent): a leaf has shape {np.shape(got)}, that of the output is "
                f"{np.shape(wanted)}. A cotangent is shaped like what it is pulled back from."
            )


def _flat(leaves: list[Any]) -> Any:
    return anp.concatenate([anp.reshape(leaf, (-1,)) for leaf in leaves])
