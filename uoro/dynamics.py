"""The protocol between a model and the algorithms: forward, jvp, vjp."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from uoro.backend import Backend, Scalar

Params = TypeVar("Params")
State = TypeVar("State")
Cotangent = TypeVar("Cotangent", covariant=True)
Inputs = TypeVar("Inputs", contravariant=True)


class Outcome(NamedTuple, Generic[State]):
    """What one step of a model gives.

    Attributes:
        next_state: s_{t+1} = F_state(x, s_t, θ), with the structure, shapes and dtypes of s_t.
        loss: ℓ_{t+1}, a real scalar.
        aux: Whatever else the transition returned; it is not differentiated.
    """

    next_state: State
    loss: Scalar
    aux: Any = None


class Pullback(Protocol[Cotangent, State]):
    """The transposed derivative of one step, at the point where `Dynamics.vjp` was called."""

    def __call__(
        self, state_cotangent: State | None, loss_cotangent: Scalar | float | None, /
    ) -> tuple[Cotangent, State]:
        """Pull cotangents of the outcome back to the parameters and the state.

        Args:
            state_cotangent: Shaped like the state; ``None`` stands for zero and costs nothing.
            loss_cotangent: A scalar; ``None`` stands for zero and costs nothing.

        Returns:
            The cotangent of the params and that of the state, shaped like them.
        """
        ...


class Dynamics(Protocol[Params, State, Inputs]):
    """A differentiable step ``(params, state, inputs) -> (next_state, loss)``.

    Laws, for all arguments, u a cotangent and v a tangent of matching shapes:

    - *Adjointness*: ``<u, jvp(v)> = <vjp(u), v>``, over the state and the loss together.
    - *Linearity*: `jvp` in its tangent and the pullback in its cotangents.
    - *Truth*: both agree with differences of `forward`, for each parameter leaf by itself.
    - *Agreement*: `forward` and `vjp` return the same outcome.
    - *Purity*: no argument is changed, and equal arguments give equal results, bit for bit.

    Attributes:
        backend: The vector algebra that goes with its trees.
        span: How many items of the stream one application consumes: 1, or T after
            ``unroll(dynamics, T)``.
    """

    @property
    def backend(self) -> Backend: ...  # noqa: D102
    @property
    def span(self) -> int: ...  # noqa: D102

    def forward(self, params: Params, state: State, inputs: Inputs) -> Outcome[State]:
        """Take one step."""
        ...

    def jvp(
        self, params: Params, state: State, inputs: Inputs, state_tangent: State
    ) -> tuple[State, Scalar]:
        """Push a tangent of the state forward, at fixed params and inputs.

        Returns:
            ``∂F_state/∂s · state_tangent``, shaped like the state, and
            ``∂ℓ/∂s · state_tangent``, a scalar.
        """
        ...

    def vjp(
        self, params: Params, state: State, inputs: Inputs
    ) -> tuple[Outcome[State], Pullback[Params, State]]:
        """Take one step and keep what is needed to pull cotangents back, any number of times."""
        ...
