"""`Dynamics` of a transition written in autograd.numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import autograd.numpy
import optree
from autograd import make_jvp, make_vjp
from autograd.builtins import tuple as boxed_tuple

from uoro.dynamics import Outcome, Pullback
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
        split = len(param_leaves)
        seen: list[Any] = []

        def flat_step(leaves: Any) -> Any:
            outcome = self._outcome(
                optree.tree_unflatten(param_structure, [leaves[i] for i in range(split)]),
                optree.tree_unflatten(
                    state_structure, [leaves[split + i] for i in range(len(state_leaves))]
                ),
                inputs,
            )
            seen.append(outcome.aux)
            return boxed_tuple((*optree.tree_leaves(outcome.next_state), outcome.loss))

        differentiate: Any = make_vjp(flat_step)
        pull, (*next_leaves, loss) = differentiate((*param_leaves, *state_leaves))
        outcome = Outcome(optree.tree_unflatten(state_structure, next_leaves), loss, seen[0])

        def pullback(state_cotangent: Any, loss_cotangent: Any) -> tuple[Any, Any]:
            cotangents = (
                [anp.zeros_like(leaf) for leaf in next_leaves]
                if state_cotangent is None
                else optree.tree_leaves(state_cotangent)
            )
            weight = 0.0 if loss_cotangent is None else loss_cotangent
            pulled = pull((*cotangents, anp.asarray(weight, dtype=anp.result_type(loss))))
            return (
                optree.tree_unflatten(param_structure, pulled[:split]),
                optree.tree_unflatten(state_structure, pulled[split:]),
            )

        return outcome, pullback


def _flat(leaves: list[Any]) -> Any:
    return anp.concatenate([anp.reshape(leaf, (-1,)) for leaf in leaves])
