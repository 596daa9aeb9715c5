"""Truncated backpropagation through time in chunks, and full backpropagation through time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.arguments import mismatch, require_count, require_dynamics, require_model, shape_of
from uoro.derivatives.sweep import mean_immediate
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.errors import StructureError, spelled
from uoro.estimator import Estimate, FormerGuarantee, Guarantee, Sampler


@dataclass(frozen=True)
class TruncatedBPTT:
    """*Chunked* T-truncated BPTT, the paper's kind: an update every T items.

    The gradient is that of the summed loss of T steps, cut at the edge of the chunk. The step takes
    a stack of T items, as the dynamics take them one by one. Cost of a step: T VJPs, and the memory
    of T states. `RollingTruncated` is the rolling kind, an update at every item.

    Args:
        span: T, the number of steps of a chunk.

    Raises:
        SettingError: If ``span`` is not a positive integer.

    Example:
        >>> from uoro import TruncatedBPTT, load_backend
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> step = backend.dynamics(lambda theta, s, x: (theta * s + x, xp.sum(theta * s + x)))
        >>> _, state, estimate = TruncatedBPTT(3).step(
        ...     step, xp.array(0.5), (), xp.zeros(1), xp.ones(3), None)
        >>> float(estimate.gradient)  # d/dθ of 1 + (1 + θ) + (1 + θ + θ²) at one half
        3.0
    """

    span: int

    def __post_init__(self) -> None:
        require_count(f"TruncatedBPTT(span={spelled(self.span)})", "span", self.span)

    estimand = FormerGuarantee()

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"biased"``: the influence of steps before the chunk is ignored."""
        return "biased"

    def init(
        self,
        dynamics: Dynamics[Params, State, Any],
        params: Params,
        state: State,
        *,
        inputs: Any = None,
    ) -> tuple[()]:
        """Return the empty carry.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`.
            StructureError: If a leaf of ``params`` or ``state`` is not an array.
        """
        require_model("TruncatedBPTT.init", dynamics, params, state)
        return ()

    def draw(self, sampler: Sampler, state: object) -> None:
        """Return ``None``: there is no randomness."""
        return

    def step(
        self,
        dynamics: Dynamics[Params, State, Any],
        params: Params,
        carry: tuple[()],
        state: State,
        inputs: Any,
        signs: None,
    ) -> tuple[tuple[()], State, Estimate]:
        """Backpropagate through a chunk.

        Args:
            dynamics: Model of one step.
            params: θ.
            carry: Empty.
            state: State before the chunk.
            inputs: A stack of T items.
            signs: ``None``.

        Returns:
            The empty carry, the state after the chunk, and the summed loss and its gradient.

        Raises:
            StructureError: If ``inputs`` is not a stack of T items.
        """
        whole = unroll(dynamics, self.span)
        return Truncated().step(whole, params, carry, state, inputs, signs)

    def step_streams(
        self,
        dynamics: Dynamics[Params, State, Any],
        params: Params,
        carry: tuple[()],
        state: State,
        inputs: Any,
        signs: None,
    ) -> tuple[tuple[()], State, Estimate]:
        """Advance B streams by `step` and average; ``inputs`` is a stack of B stacks of T items."""
        whole = unroll(dynamics, self.span)
        return Truncated().step_streams(whole, params, carry, state, inputs, signs)


@dataclass(frozen=True)
class Truncated:
    """The gradient within one application of the dynamics: what truncated BPTT is made of.

    On plain dynamics it is 1-truncated BPTT, on ``unroll(dynamics, T)`` it is ``TruncatedBPTT(T)``,
    and over a whole sequence full BPTT (see `bptt`).

    Example:
        >>> from uoro import load_backend, unroll
        >>> from uoro.estimators import Truncated
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> step = backend.dynamics(lambda theta, s, x: (theta * s + x, xp.sum(theta * s + x)))
        >>> chunk = unroll(step, 3)
        >>> _, state, estimate = Truncated().step(
        ...     chunk, xp.array(0.5), (), xp.zeros(1), xp.ones(3), None)
        >>> float(estimate.gradient)  # d/dθ of 1 + (1 + θ) + (1 + θ + θ²) at one half
        3.0
    """

    estimand = FormerGuarantee()

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"biased"``: the influence of earlier steps is ignored."""
        return "biased"

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> tuple[()]:
        """Return the empty carry.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`.
            StructureError: If a leaf of ``params`` or ``state`` is not an array.
        """
        require_model("Truncated.init", dynamics, params, state)
        return ()

    def draw(self, sampler: Sampler, state: object) -> None:
        """Return ``None``: there is no randomness."""
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
        """Backpropagate through one application of the dynamics."""
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
        """Advance B streams by `step` and average; state and inputs are stacks of B."""

        def one(state: State, inputs: Inputs) -> Any:
            outcome, pullback = dynamics.vjp(params, state, inputs)
            return outcome, pullback(None, 1.0)[0]

        outcome, each = dynamics.backend.vmap(one)(state, inputs)
        immediate = mean_immediate(dynamics, params, state, inputs, each)
        return (), outcome.next_state, Estimate(outcome.loss.mean(), immediate, outcome.aux)


def bptt(
    dynamics: Dynamics[Params, State, Any], params: Params, state: State, sequence: Any
) -> tuple[State, Estimate]:
    """Compute the exact gradient of the total loss of a stored sequence.

    Args:
        dynamics: The model.
        params: Parameters, the same at every step.
        state: State before the first item.
        sequence: A stack of T items.

    Returns:
        The state after the sequence, and the total loss with its gradient.

    Raises:
        SettingError: If ``dynamics`` is not a `Dynamics`.
        StructureError: If the arrays of ``sequence`` have no leading axis of at least one item.
    """
    require_dynamics("bptt(dynamics, …)", dynamics)
    sequence = dynamics.backend.from_host(sequence)
    shapes = [shape_of(leaf) for _, leaf in dynamics.backend.named_leaves(sequence)]
    length = shapes[0][0] if shapes and shapes[0] else 0
    if length < 1:
        expected = "a stack of T >= 1 items, every array with a leading axis of T"
        hint = "If the model ignores its items, stack any numbers."
        raise StructureError(mismatch("bptt(sequence=...)", "", expected, spelled(sequence), hint))
    whole = unroll(dynamics, length)
    _, last, estimate = Truncated().step(whole, params, (), state, sequence, None)
    return last, estimate
