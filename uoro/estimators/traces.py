"""Eligibility traces over online gradients: TD(λ) for agents with a memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from uoro.algebra import select
from uoro.arguments import (
    mismatch,
    require_callable,
    require_dynamics,
    require_number,
)
from uoro.backend import Backend, Scalar
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, StructureError, spelled
from uoro.estimator import (
    Estimator,
    Guarantee,
    ParallelEstimator,
    Sampler,
    guarantee_of,
    needs_item,
)
from uoro.estimators.auto import require_estimator
from uoro.prediction import predicting


class Traced(NamedTuple):
    """The carry of an estimator, and a trace of its gradients.

    Attributes:
        carry: Carry of the estimator.
        trace: z, a decaying sum of gradients; shaped like the params.
    """

    carry: Any
    trace: Any


@dataclass(frozen=True)
class Traces:
    """Accumulate the online gradient of an output over the steps of an episode.

    One step computes ``z ← γλ z + g̃``, where ``g̃ = ∂⟨ō, o⟩/∂θ`` is the estimate of the gradient of
    an output along a cotangent ō. With ō = 1 for a value v, and a TD error δ that is known one step
    later, ``θ ← θ + α δ z`` is TD(λ), through all of the past that the influence holds: an agent
    with a memory needs no unrolling. For an actor-critic ō is 1 for the value, and ∂ log π(a)/∂o
    for the policy. With constant params, z is unbiased where the estimator is.

    All methods are pure, and are those of one stream, as each stream has a TD error of its own: map
    them over streams with ``backend.vmap`` (`jax.vmap`). Cost beside the estimator's: one tree like
    the params.

    Args:
        estimator: Estimator of one stream.
        discount: γ, from 0 to 1.
        decay: λ, from 0 to 1.

    Raises:
        SettingError: If a number is out of range, or the estimator is none or of several streams.

    Example:
        The value of a state that decays, with a reward of one at each step:

        >>> from uoro import RTRL, load_backend
        >>> from uoro.estimators import Traces
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> model = backend.dynamics(lambda theta, s, x: (0.5 * s + x, theta * xp.sum(0.5 * s + x)))
        >>> traces, theta, state = Traces(RTRL(), 0.9, 0.8), xp.array(0.0), xp.zeros(1)
        >>> held = traces.init(model, theta, state)
        >>> for x in (1.0, 0.0):
        ...     held, state, value = traces.step(model, theta, held, state, x, None, lambda o: 1.0)
        >>> round(float(held.trace), 4)  # 0.9 · 0.8 · 1 + 0.5
        1.22

    References:
        Sutton & Barto, "Reinforcement Learning", 2nd edition, sections 12.2 and 13.5.
    """

    estimator: Estimator
    discount: float
    decay: float

    def __post_init__(self) -> None:
        call = f"Traces(discount={spelled(self.discount)}, decay={spelled(self.decay)})"
        require_estimator(call, self.estimator)
        if isinstance(self.estimator, ParallelEstimator):
            got, hint = spelled(self.estimator), "Map the traces of one stream: backend.vmap(...)."
            expected = "an estimator of one stream"
            raise SettingError(mismatch(call, "estimator", expected, got, hint))
        for name in ("discount", "decay"):
            value = getattr(self, name)
            require_number(call, name, value, "a number from 0 to 1", lambda x: 0 <= x <= 1)

    @property
    def guarantee(self) -> Guarantee:
        """Return the guarantee of the estimator, which a sum inherits."""
        return guarantee_of(self.estimator)

    @property
    def needs_item(self) -> bool:
        """Return whether the carry of the estimator is built by an item."""
        return needs_item(self.estimator)

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Traced:
        """Return the initial carry and a trace of zeros; the arguments are those of `Estimator`.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`.
        """
        require_dynamics("Traces.init(dynamics, …)", dynamics)
        carry = self.estimator.init(dynamics, params, state, inputs=inputs)
        return Traced(carry, dynamics.backend.zeros(params))

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw the signs of one step."""
        return self.estimator.draw(sampler, state)

    def step(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        traced: Traced,
        state: Any,
        inputs: Any,
        signs: Any,
        cotangent: Callable[[Any], Any],
    ) -> tuple[Traced, Any, Any]:
        """Advance by one step, and add the gradient of the output along a cotangent to the trace.

        Args:
            dynamics: The model.
            params: θ.
            traced: What the previous step or `init` returned.
            state: s_t.
            inputs: One item of the stream.
            signs: What `draw` returned.
            cotangent: Function of the output that returns ō, a tangent of the output.

        Returns:
            The next carry and trace, the next state, and the output.

        Raises:
            StructureError: If ``traced`` is no `Traced`, or ō is not shaped like the output.
        """
        _require_traced("Traces.step", traced)
        require_callable("Traces.step(...)", "cotangent", cotangent, "a function of the output")
        estimator = predicting(self.estimator, "Traces.step")
        carry, state, prediction = estimator.advance(
            dynamics, params, traced.carry, state, inputs, signs
        )
        gradient = prediction.gradient(cotangent(prediction.output))
        trace = self.accumulate(dynamics.backend, traced.trace, gradient)
        return Traced(carry, trace), state, prediction.output

    def accumulate(self, backend: Backend, trace: Any, gradient: Any) -> Any:
        """Return ``γλ z + g̃``, for a gradient that was taken by hand or late."""
        return backend.combine((self.discount * self.decay, trace), (1.0, gradient))

    def reset(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        traced: Traced,
        state: Any,
        ended: Scalar | bool,
        fresh: Any,
        *,
        inputs: Any = None,
    ) -> tuple[Traced, Any]:
        """Start a new episode where one has ended: zero the trace, and restart carry and state.

        Args:
            dynamics: The model.
            params: θ.
            traced: What the last step returned.
            state: State after the last step.
            ended: Whether the episode has ended, a boolean or a boolean scalar array.
            fresh: State to start the new episode from.
            inputs: One item of the stream, for estimators that need one.

        Returns:
            Carry and trace, and the state; unchanged if the episode goes on.

        Raises:
            StructureError: If ``traced`` is no `Traced`, or ``ended`` is not one boolean.
        """
        _require_traced("Traces.reset", traced)
        backend = dynamics.backend
        mask = backend.from_host(ended)
        if tuple(mask.shape) not in ((), (1,)):
            got, hint = (
                f"shape {tuple(mask.shape)}",
                "Map the traces of one stream: backend.vmap(...).",
            )
            raise StructureError(mismatch("Traces.reset(ended=...)", "", "one boolean", got, hint))
        mask = mask.reshape((1,))
        chosen = self.init(dynamics, params, fresh, inputs=inputs), fresh
        lifted = backend.map(lambda leaf: leaf[None], (chosen, (traced, state)))
        restarted: tuple[Traced, Any] = backend.map(
            lambda leaf: leaf[0], select(backend, mask, *lifted)
        )
        return restarted


def _require_traced(call: str, traced: object) -> None:
    if not isinstance(traced, Traced):
        expected, hint = "a Traced", "Build it with init, and pass on what step returns."
        raise StructureError(mismatch(f"{call}(traced=...)", "", expected, spelled(traced), hint))
