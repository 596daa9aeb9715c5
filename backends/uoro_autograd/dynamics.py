"""`Dynamics` of a transition written in autograd.numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autograd.numpy
import numpy as np
import optree
from autograd import make_jvp, make_vjp
from autograd.builtins import tuple as boxed_tuple
from autograd.core import VJPNode, backward_pass
from autograd.tracer import getval, isbox, trace

from uoro.backend import Backend
from uoro.derivatives.transition import checked
from uoro.dynamics import Outcome, Pullback
from uoro.errors import StructureError
from uoro_autograd.trees import coordinates_of, flatten, moving, unflatten

anp: Any = autograd.numpy  # it makes its functions at run time, unseen by type checkers


class AutogradDynamics:
    """Forward, jvp and vjp by autograd, for trees of arrays.

    Args:
        backend: The backend of the arrays.
        transition: ``(params, state, inputs) -> (next_state, loss)`` in autograd.numpy.
        has_aux: Whether it returns a third element.
        twice: Whether the jvp is the vjp of the vjp, and not autograd's own.
    """

    span = 1

    def __init__(
        self,
        backend: Backend,
        transition: Callable[..., Any],
        has_aux: bool,
        twice: bool = False,
    ) -> None:
        self.backend = backend
        self._push = _push_twice if twice else _push_forward
        self._outcome = checked(transition, backend, has_aux=has_aux)

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Compute the next state and the output."""
        return self._outcome(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Compute the JVP in the state, along one flat row of its coordinates."""
        leaves, structure = optree.tree_flatten(moving(state))

        made = list[Any]()

        def flat_step(row: Any) -> Any:
            moved = optree.tree_unflatten(structure, unflatten(row, leaves))
            outcome = self._outcome(params, _join(state, moved), inputs)
            following = _leaves(_like(state, outcome.next_state))
            made[:] = [moving(_unbox(outcome.output))]
            output = _like(*2 * (outcome.output,))
            likes = _leaves(made[0])
            return anp.concatenate([flatten(following, leaves), flatten(output, likes)])

        row, tangent = flatten(leaves, leaves), flatten(_leaves(state_tangent), leaves)
        pushed = self._push(flat_step, row, tangent)
        output_leaves, of_output = optree.tree_flatten(made[0])
        return (
            optree.tree_unflatten(structure, unflatten(pushed[: row.size], leaves)),
            optree.tree_unflatten(of_output, unflatten(pushed[row.size :], output_leaves)),
        )

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Compute the outcome on a tape, and a pullback that may be called any number of times."""
        param_leaves, param_structure = optree.tree_flatten(params)
        state_leaves, state_structure = optree.tree_flatten(moving(state))
        split, count = len(param_leaves), len(param_leaves) + len(state_leaves)
        taped: list[Any] = []

        def flat_step(leaves: Any) -> Any:
            each = [leaves[i] for i in range(count)]
            outcome = self._outcome(
                optree.tree_unflatten(param_structure, each[:split]),
                _join(state, optree.tree_unflatten(state_structure, each[split:])),
                inputs,
            )
            next_leaves = boxed_tuple(_leaves(_like(state, outcome.next_state)))
            output_leaves = boxed_tuple(_like(*2 * (outcome.output,)))
            taped.extend((next_leaves, output_leaves, outcome))
            return output_leaves

        roots = (*param_leaves, *state_leaves)
        trace(VJPNode.new_root(), flat_step, roots)
        next_box, output_box, outcome = taped
        output = optree.tree_map(anp.asarray, _unbox(outcome.output))

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            pulled = [anp.zeros_like(root) for root in roots]
            for box, given in ((next_box, state_cotangent), (output_box, output_cotangent)):
                if given is not None and isbox(box):
                    cotangent = tuple(
                        anp.asarray(leaf, dtype=like.dtype)
                        for leaf, like in zip(_leaves(given), _unbox(box), strict=True)
                    )
                    _require_shapes(cotangent, _unbox(box))
                    pulled = [a + b for a, b in zip(pulled, _pull(cotangent, box), strict=True)]
            return (
                optree.tree_unflatten(param_structure, pulled[:split]),
                optree.tree_unflatten(state_structure, pulled[split:]),
            )

        return Outcome(_unbox(outcome.next_state), output, _unbox(outcome.aux)), pullback


def _push_forward(function: Any, row: Any, tangent: Any) -> Any:
    """Compute a JVP by autograd's forward mode."""
    differentiate: Any = make_jvp(function)
    _, pushed = differentiate(row)(tangent)
    return pushed


def _push_twice(function: Any, row: Any, tangent: Any) -> Any:
    """Compute a JVP as the VJP, in its cotangent, of the VJP."""
    differentiate: Any = make_vjp
    pull, value = differentiate(function)(row)
    push, _ = differentiate(pull)(anp.zeros_like(value))
    return push(tangent)


def _join(state: Any, moved: Any) -> Any:
    """Return the state with its differentiable leaves replaced by leaves on a tape."""
    leaves = iter(_leaves(moved))
    return optree.tree_map(lambda leaf: next(leaves) if coordinates_of(leaf) else leaf, state)


def _like(state: Any, following: Any) -> Any:
    """Return the leaves of the next state whose counterparts in the state are differentiable."""
    pairs = zip(_leaves(state), _leaves(following), strict=True)
    return tuple(leaf for like, leaf in pairs if coordinates_of(_value(like)))


def _leaves(tree: Any) -> tuple[Any, ...]:
    return tuple(optree.tree_leaves(tree))


def _unbox(tree: Any) -> Any:
    """Return the values of a box, or of the boxes in a tree."""
    return optree.tree_map(_value, _value(tree))


def _value(leaf: Any) -> Any:
    return getval(leaf) if isbox(leaf) else leaf


def _pull(cotangent: Any, box: Any) -> list[Any]:
    """Run the backward pass from a single output; the others cost nothing.

    autograd pairs ``Re(u v)``, without a conjugate, where the inner product is ``Re(u* v)``.
    """
    given = optree.tree_map(_conjugate, cotangent)
    return [_conjugate(pulled) for pulled in backward_pass(given, box._node)]


def _conjugate(array: Any) -> Any:
    return np.conj(array) if np.iscomplexobj(array) else array


def _require_shapes(cotangent: Any, output: Any) -> None:
    """Raise for a cotangent that autograd would silently broadcast against its output."""
    for got, expected in zip(_leaves(cotangent), _leaves(output), strict=True):
        if np.shape(got) != np.shape(expected):
            raise StructureError(
                f"pullback(cotangent): a leaf: expected the output's shape {np.shape(expected)}, "
                f"got {np.shape(got)}."
            )
