"""Dynamics in a single leaf of the params, the others held fixed."""

from __future__ import annotations

from typing import Any

from uoro.backend import Backend, Tree
from uoro.derivatives.sweep import sweep_of
from uoro.dynamics import Dynamics, Each, Outcome, Pullback, Sweep


def with_leaf(backend: Backend, tree: Tree, name: str, value: Any) -> Tree:
    """Return a tree with one leaf replaced, named as by `Backend.named_leaves`."""
    names = iter([each for each, _ in backend.named_leaves(tree)])
    return backend.map(lambda leaf: value if next(names) == name else leaf, tree)


class PartialDynamics:
    """A model as a function of one leaf of its params.

    Args:
        dynamics: The model.
        params: All params; the others stay as they are.
        name: Name of the leaf, as `Backend.named_leaves` spells it.
    """

    def __init__(self, dynamics: Dynamics[Any, Any, Any], params: Any, name: str) -> None:
        self.backend = dynamics.backend
        self.span = dynamics.span
        self._dynamics, self._params, self._name = dynamics, params, name

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Compute the next state and the output."""
        return self._dynamics.forward(self._whole(params), state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Compute the Jacobian-vector product in the state."""
        return self._dynamics.jvp(self._whole(params), state, inputs, state_tangent)

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Compute the outcome, and a pullback to the leaf."""
        outcome, whole = self._dynamics.vjp(self._whole(params), state, inputs)

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            by_params, by_state = whole(state_cotangent, output_cotangent)
            return self._leaf(by_params), by_state

        return outcome, pullback

    def sweep(
        self, params: Any, state: Any, inputs: Any, tangent: Any, signs: Any, each: Each
    ) -> Sweep[Any, Any]:
        """Compute all derivatives of a UORO step."""
        sweep = sweep_of(self._dynamics)
        whole = sweep(self._whole(params), state, inputs, tangent, signs, each)

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            by_params, by_state = whole.pullback(state_cotangent, output_cotangent)
            return self._leaf(by_params), by_state

        return whole._replace(
            pullback=pullback, pull=lambda nu, kept: self._leaf(whole.pull(nu, kept))
        )

    def _leaf(self, tree: Any) -> Any:
        return dict(self.backend.named_leaves(tree))[self._name]

    def _whole(self, value: Any) -> Any:
        return with_leaf(self.backend, self._params, self._name, value)
