"""The protocols between a model and the algorithms: forward, JVP and VJP of one step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from uoro.backend import Backend, Scalar

Params = TypeVar("Params")
State = TypeVar("State")
Cotangent = TypeVar("Cotangent", covariant=True)
Inputs = TypeVar("Inputs", contravariant=True)

Each: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Turns a function of one pair into a function of all carried pairs: a map, or the identity."""


class Moment(NamedTuple):
    """The point at which a step is taken: the arguments of `Dynamics.forward`.

    Attributes:
        params: θ.
        state: s_t, the hidden state.
        inputs: x_{t+1}, one item of the stream.
    """

    params: Any
    state: Any
    inputs: Any


class Outcome(NamedTuple, Generic[State]):
    """The result of one step.

    Attributes:
        next_state: s_{t+1} = F_state(x, s_t, θ), with the structure, shapes and dtypes of s_t.
        output: o_{t+1} = F_out(x, s_t, θ), any tree; a loss is the special case of a real scalar.
        aux: Third return value of the transition, not differentiated; default ``None``.
    """

    next_state: State
    output: Any
    aux: Any = None

    @property
    def loss(self) -> Scalar:
        """ℓ_{t+1}: the output of a transition that returns a loss."""
        loss: Scalar = self.output
        return loss


class Sweep(NamedTuple, Generic[State, Params]):
    """All derivatives that one UORO step needs, for one pair or for a stack of pairs.

    A pair (s̃, θ̃) is a rank-one estimate of the influence ∂s/∂θ.

    Attributes:
        outcome: Next state and output.
        pushed: ∂F/∂s · s̃, the JVP; shaped like the state.
        output_tangent: ∂o/∂s · s̃, shaped like the output; ``None`` where it is cheaper to pull a
            cotangent of the output back to the state, and nothing is mapped over streams.
        pullback: The pullback of the step, as `Dynamics.vjp` returns it; it is called with
            cotangents of the output alone.
        pull: A function ``(signs, kept)`` that returns the VJP νᵀ ∂F/∂θ of one pair. A function,
            so that a compiler can fuse the VJP with its consumer.
        kept: Second argument of `pull`, one per pair.
        moved: Which tangents are not zero, as a mask or as one `bool`; ``None`` if that was not
            looked at.
    """

    outcome: Outcome[State]
    pushed: State
    output_tangent: Any
    pullback: Pullback[Params, State]
    pull: Callable[[State, Any], Params]
    kept: Any
    moved: Any = None


class Pullback(Protocol[Cotangent, State]):
    """The transposed derivative of one step, at the point where `Dynamics.vjp` was called."""

    def __call__(
        self, state_cotangent: State | None, output_cotangent: Any, /
    ) -> tuple[Cotangent, State]:
        """Compute the cotangents of params and state.

        Args:
            state_cotangent: Cotangent of the next state, shaped like the state; ``None`` stands
                for zero and costs nothing.
            output_cotangent: Cotangent of the output, shaped like the output (of a loss a number);
                ``None`` stands for zero and costs nothing.

        Returns:
            The cotangent of the params and the cotangent of the state, shaped like them.
        """
        ...


class Dynamics(Protocol[Params, State, Inputs]):
    """A differentiable step ``(params, state, inputs) -> (next_state, output)``.

    The output is any tree. A loss, a real scalar, is the special case that estimators can take a
    whole step on; of any other output the user supplies the cotangent.

    Laws, for all arguments, u a cotangent and v a tangent of matching shapes:

    - *Adjointness*: ``<u, jvp(v)> = <vjp(u), v>``, over the state and the output together.
    - *Linearity*: `jvp` in its tangent and the pullback in its cotangents.
    - *Truth*: both agree with finite differences of `forward`, for each leaf of the params.
    - *Agreement*: `forward` and `vjp` return the same outcome.
    - *Purity*: no argument is changed, and equal arguments give equal results, bit for bit.

    Attributes:
        backend: The vector algebra of its trees.
        span: Number of stream items that one step consumes: 1, or T after
            ``unroll(dynamics, T)``.
    """

    @property
    def backend(self) -> Backend: ...  # noqa: D102
    @property
    def span(self) -> int: ...  # noqa: D102

    def forward(self, params: Params, state: State, inputs: Inputs) -> Outcome[State]:
        """Compute the next state and the output."""
        ...

    def jvp(
        self, params: Params, state: State, inputs: Inputs, state_tangent: State
    ) -> tuple[State, Any]:
        """Compute the Jacobian-vector product in the state, at fixed params and inputs.

        Returns:
            ``∂F_state/∂s · state_tangent``, shaped like the state, and
            ``∂F_out/∂s · state_tangent``, shaped like the output.
        """
        ...

    def vjp(
        self, params: Params, state: State, inputs: Inputs
    ) -> tuple[Outcome[State], Pullback[Params, State]]:
        """Compute the outcome, and the pullback, which may be called any number of times."""
        ...


@runtime_checkable
class Sweeping(Protocol):
    """Dynamics that compute all derivatives of a UORO step together.

    Law: `sweep` returns what `uoro.derivatives.sweep.separately` returns, up to rounding.
    """

    def sweep(
        self, params: Any, state: Any, inputs: Any, tangent: Any, signs: Any, each: Each, /
    ) -> Sweep[Any, Any]:
        """Compute outcome, pullback, JVPs of the tangents and VJPs of the signs.

        Args:
            params: θ.
            state: s_t.
            inputs: One item of the stream.
            tangent: s̃, or a stack with one s̃ per pair.
            signs: ν, or a stack with one ν per pair.
            each: The map over pairs; `uoro.derivatives.sweep.once` for a single pair.
        """
        ...


@runtime_checkable
class Batched(Protocol):
    """Dynamics of one stream that can be run for many streams as one model.

    Law: the step of ``many()`` takes a stack of states and a stack of items; its next state is
    the stack of the next states, its output the stack of the outputs, and its pullback sums over
    streams what each pulls back to the params.
    """

    def many(self) -> Dynamics[Any, Any, Any] | None:
        """Return dynamics of many streams, or ``None`` if this model has none."""
        ...


@runtime_checkable
class Holding(Protocol):
    """Dynamics of a model that computes some numbers anew in each step, but takes them as constant.

    An example is the power iteration of a spectral norm. Law: in the context, `forward` returns the
    same outcome at the point itself, and holds those numbers elsewhere.
    """

    def held(self, params: Any, state: Any, inputs: Any, /) -> AbstractContextManager[None]:
        """Return a context in which the numbers are those of a point."""
        ...


@runtime_checkable
class Checked(Protocol):
    """Dynamics that check their model: purity, adjointness, agreement with differences.

    Law: `probe` changes neither its arguments nor any random state, and a second `probe` at the
    same point changes nothing.
    """

    def probe(self, params: Any, state: Any, inputs: Any, /) -> Dynamics[Any, Any, Any]:
        """Run the model check at a point, choose an autodiff mode, and return the dynamics.

        Raises:
            DerivativeError: If the model is impure or cannot be differentiated.
        """
        ...

    def describe(self) -> str:
        """Return which autodiff mode was chosen, and why, in a few sentences."""
        ...

    def forget(self) -> None:
        """Discard the choice; the next step checks the model anew."""
        ...
