"""Rolling truncated backpropagation through time: an update a step, through the last T steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple

from uoro.algebra import differentiable, push, repeat, where
from uoro.arguments import mismatch, require_carry, require_count, require_model
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.errors import SettingError, StructureError, spelled
from uoro.estimator import FormerGuarantee, Guarantee, Sampler
from uoro.prediction import Prediction, Stepping


class Window(NamedTuple, Generic[State]):
    """The last T-1 steps, oldest first.

    Attributes:
        states: A stack of the states before these steps.
        inputs: A stack of the items of these steps.
        filled: A vector of T-1 numbers: 1 where an entry is a step that was taken, 0 elsewhere.
    """

    states: State
    inputs: Any
    filled: Any


@dataclass(frozen=True)
class RollingTruncated(Stepping):
    """*Rolling* T-truncated BPTT: at every step, the gradient of its loss through the last T steps.

    The window stores the states that were visited; derivatives along it are taken at the present
    params. Cost of a step: T VJPs. `TruncatedBPTT` is the chunked kind, an update every T items.

    Args:
        window: T, the number of steps that the gradient reaches back, the present one included.

    Raises:
        SettingError: If ``window`` is not a positive integer.

    Example:
        >>> from uoro import RollingTruncated, load_backend
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> step = backend.dynamics(lambda theta, s, x: (theta * s + x, xp.sum(theta * s + x)))
        >>> theta, state, estimator = xp.array(0.5), xp.zeros(1), RollingTruncated(2)
        >>> carry = estimator.init(step, theta, state, inputs=xp.array(1.0))
        >>> for x in (1.0, 1.0, 1.0):
        ...     carry, state, estimate = estimator.step(
        ...         step, theta, carry, state, xp.array(x), None)
        >>> float(estimate.gradient)  # s₂ + θ s₁, as the window ends before s₁
        2.0
    """

    window: int

    def __post_init__(self) -> None:
        require_count(f"RollingTruncated(window={spelled(self.window)})", "window", self.window)

    estimand = FormerGuarantee()

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"biased"``: the influence of steps before the window is ignored."""
        return "biased"

    @property
    def needs_item(self) -> bool:
        """Return whether there is a window, of items shaped like the first."""
        return self.window > 1

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> Window[State] | tuple[()]:
        """Return an empty window, whose unused entries repeat the first state and item.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`, or ``inputs`` is missing.
            StructureError: If a leaf of ``params`` or ``state`` is not an array, or no leaf of the
                state is differentiable.
        """
        require_model("RollingTruncated.init", dynamics, params, state)
        past = self.window - 1
        if past == 0:
            return ()
        if inputs is None:
            raise SettingError(
                "RollingTruncated.init(inputs=None): expected an item of the stream, for its "
                "shape, got None. Pass inputs=item."
            )
        backend = dynamics.backend
        leaves = differentiable(backend, state)
        if not leaves:
            call, expected = "RollingTruncated.init(state=...)", "at least one floating array"
            raise StructureError(mismatch(call, "", expected, spelled(state)))
        return Window(
            states=repeat(backend, state, past),
            inputs=repeat(backend, backend.from_host(inputs), past),
            # Made of a leaf of the state, to be on its device.
            filled=backend.xp.concatenate([leaves[0].reshape((-1,))[:1] * 0] * past),
        )

    def draw(self, sampler: Sampler, state: object) -> None:
        """Return ``None``: there is no randomness."""
        return

    def advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Window[State] | tuple[()],
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[Window[State] | tuple[()], State, Prediction]:
        """Take a step; its loss, which may come later, is backpropagated newest step first.

        Returns:
            The next window, the next state, and the output with the gradient of any loss of it.

        Raises:
            StructureError: If ``carry`` is not a `Window`.
        """
        if self.window > 1:
            require_carry("RollingTruncated.step", carry, Window)
        backend = dynamics.backend
        outcome, pullback = dynamics.vjp(params, state, inputs)

        def gradient(cotangent: Any) -> Any:
            immediate, state_gradient = pullback(None, cotangent)
            return self._reach_back(dynamics, params, carry, state_gradient, immediate)

        prediction = Prediction(backend, outcome, gradient)
        if not isinstance(carry, Window):
            return carry, outcome.next_state, prediction
        filled = carry.filled
        window = Window(
            states=push(backend, carry.states, state),
            inputs=push(backend, carry.inputs, backend.from_host(inputs)),
            filled=push(backend, filled, filled[0] * 0 + 1),
        )
        return window, outcome.next_state, prediction

    def through(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Window[State] | tuple[()],
        state_gradient: State,
    ) -> Params:
        """Backpropagate a gradient of the state through the window."""
        start = dynamics.backend.zeros(params)
        return self._reach_back(dynamics, params, carry, state_gradient, start)

    def _reach_back(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Window[State] | tuple[()],
        state_gradient: State,
        gradient: Params,
    ) -> Params:
        """Add what is backpropagated through the window to a gradient."""
        if not isinstance(carry, Window):
            return gradient
        backend = dynamics.backend

        def reach_back(
            carried: tuple[State, Params], past: Window[State]
        ) -> tuple[tuple[State, Params], None]:
            cotangent, total = carried
            _, pull = dynamics.vjp(params, past.states, past.inputs)
            # An entry that is not filled counts for nothing, even where its derivative is infinite.
            keep = partial(where, backend, past.filled != 0)
            pulled, further = backend.map(keep, pull(cotangent, None))
            return (further, backend.combine((1.0, total), (1.0, pulled))), None

        (_, gradient), _ = backend.scan(reach_back, (state_gradient, gradient), carry, reverse=True)
        return gradient
