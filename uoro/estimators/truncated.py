"""Truncated backpropagation through time in chunks, and full backpropagation through time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.arguments import mismatch, require_count, require_dynamics, require_model, shape_of
from uoro.derivatives.many import many
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.errors import StructureError, spelled
from uoro.estimator import Estimate, FormerGuarantee, Guarantee, Sampler
from uoro.prediction import Prediction, Stepping


@dataclass(frozen=True)
class Truncated(Stepping):
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
        require_model(f"{type(self).__name__}.init", dynamics, params, state)
        return ()

    def draw(self, sampler: Sampler, state: object) -> None:
        """Return ``None``: there is no randomness."""
        return

    def advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: tuple[()],
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[tuple[()], State, Prediction]:
        """Apply the dynamics once; the gradient is that within this application."""
        model = self._model(dynamics)
        outcome, pullback = model.vjp(params, state, inputs)
        prediction = Prediction(
            model.backend, outcome, lambda cotangent: pullback(None, cotangent)[0]
        )
        return (), outcome.next_state, prediction

    def advance_streams(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: tuple[()],
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[tuple[()], State, Prediction]:
        """Advance B streams; state and inputs are stacks of B."""
        return Truncated().advance(many(self._model(dynamics)), params, (), state, inputs, None)

    def gradient(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: tuple[()],
        state: State,
        inputs: Inputs,
        cotangent: Any,
    ) -> Params:
        """Return the gradient of a loss of a step's output, from what the step received."""
        immediate: Params = self._model(dynamics).vjp(params, state, inputs)[1](None, cotangent)[0]
        return immediate

    def _model(self, dynamics: Dynamics[Any, Any, Any]) -> Dynamics[Any, Any, Any]:
        """Return what one step applies."""
        return dynamics


@dataclass(frozen=True)
class TruncatedBPTT(Truncated):
    """*Chunked* T-truncated BPTT, the paper's kind: an update every T items.

    The gradient is that of the summed loss of T steps, cut at the edge of the chunk. The step takes
    a stack of T items, as the dynamics take them one by one; outputs that are no losses come out as
    a stack. Cost of a step: T VJPs, and the memory
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

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"biased"``: the influence of steps before the chunk is ignored."""
        return "biased"

    def _model(self, dynamics: Dynamics[Any, Any, Any]) -> Dynamics[Any, Any, Any]:
        return unroll(dynamics, self.span)


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
