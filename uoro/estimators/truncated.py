"""Chunked truncated backpropagation through time, and the full one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.arguments import require_dynamics, require_model, shape_of
from uoro.derivatives.sweep import mean_direct
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.errors import StructureError, spelled
from uoro.estimator import Estimate, Guarantee, Sampler


@dataclass(frozen=True)
class Truncated:
    """The gradient within one application of the dynamics, and nothing carried beyond it.

    On plain dynamics this is 1-truncated BPTT. On ``unroll(dynamics, T)`` it is *chunked*
    T-truncated BPTT, the paper's kind: one update every T steps with the summed gradient, cut
    at the chunk's edge. Over a whole sequence it is full BPTT (see `bptt`).

    Example:
        >>> from uoro import Truncated, load_backend, unroll
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> step = backend.dynamics(lambda theta, s, x: (theta * s + x, xp.sum(theta * s + x)))
        >>> chunk = unroll(step, 3)
        >>> _, state, estimate = Truncated().step(
        ...     chunk, xp.array(0.5), (), xp.zeros(1), xp.ones(3), None)
        >>> float(estimate.gradient)  # d/dθ of 1 + (1 + θ) + (1 + θ + θ²) at one half
        3.0
    """

    @property
    def guarantee(self) -> Guarantee:
        """It is biased: it ignores what happened before the chunk."""
        return "biased"

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> tuple[()]:
        """Make the empty memory.

        Raises:
            SettingError: If the dynamics are none.
            StructureError: If a leaf of params or state is no array.
        """
        require_model("Truncated.init", dynamics, params, state)
        return ()

    def draw(self, sampler: Sampler, state: object) -> None:
        """Draw nothing."""
        return

    def step(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: tuple[()],
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[tuple[()], State, Estimate]:
        """Backpropagate through this application alone."""
        outcome, pullback = dynamics.vjp(params, state, inputs)
        immediate, _ = pullback(None, 1.0)
        return (), outcome.next_state, Estimate(outcome.loss, immediate, outcome.aux)

    def step_streams(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: tuple[()],
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[tuple[()], State, Estimate]:
        """Do for B streams what `step` does for one, and average; the arguments are stacks of B."""

        def one(state: State, inputs: Inputs) -> Any:
            outcome, pullback = dynamics.vjp(params, state, inputs)
            return outcome, pullback(None, 1.0)[0]

        outcome, each = dynamics.backend.vmap(one)(state, inputs)
        immediate = mean_direct(dynamics, params, state, inputs, each)
        return (), outcome.next_state, Estimate(outcome.loss.mean(), immediate, outcome.aux)


def bptt(
    dynamics: Dynamics[Params, State, Any], params: Params, state: State, sequence: Any
) -> tuple[State, Estimate]:
    """Backpropagate through a whole stored sequence: the exact gradient of its total loss.

    Args:
        dynamics: The model.
        params: Held fixed over the sequence.
        state: The state before the first item.
        sequence: A stack of T items.

    Returns:
        The state after the sequence, and the estimate: the total loss and its gradient.

    Raises:
        SettingError: If the dynamics are none.
        StructureError: If the sequence is no stack of one item or more.
    """
    require_dynamics("bptt(dynamics, …)", dynamics)
    sequence = dynamics.backend.from_host(sequence)
    shapes = [shape_of(leaf) for _, leaf in dynamics.backend.named_leaves(sequence)]
    length = shapes[0][0] if shapes and shapes[0] else 0
    if length < 1:
        raise StructureError(
            f"bptt(sequence={spelled(sequence)}): wanted is a stack of T items, every array of "
            "which has a leading axis of T >= 1. If the model ignores them, any numbers will do."
        )
    whole = unroll(dynamics, length)
    _, last, estimate = Truncated().step(whole, params, (), state, sequence, None)
    return last, estimate
