"""Real-Time Recurrent Learning: the exact influence, propagated forward in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.algebra import basis, coordinates, mix, nonzero, size, where
from uoro.arguments import require_like, require_model
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.estimator import FormerGuarantee, Guarantee, Sampler
from uoro.prediction import Prediction, Stepping


@dataclass(frozen=True)
class RTRL(Stepping):
    """Exact online gradient for the whole hidden state, all layers together.

    Carries the influence ``G_t = ∂s_t/∂θ``, the sensitivity of the hidden state to the parameters,
    as a stack of n trees shaped like the params, where n is the number of state coordinates. One
    step computes

        G_{t+1} = ∂F/∂s · G_t + ∂F/∂θ,      g = ∂ℓ/∂s · G_t + ∂ℓ/∂θ.

    Cost of a step: n VJPs, a product of an n × n matrix and an n × params matrix, and the memory of
    n copies of the params. RTRL is the reference for small models; `UORO` is for large ones.

    Example:
        >>> from uoro import RTRL, load_backend
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> dynamics = backend.dynamics(lambda theta, s, x: (theta * s + x, xp.sum(theta * s + x)))
        >>> theta, state = xp.array(0.5), xp.zeros(1)
        >>> estimator = RTRL()
        >>> carry = estimator.init(dynamics, theta, state)
        >>> for x in (1.0, 1.0, 1.0):
        ...     carry, state, estimate = estimator.step(dynamics, theta, carry, state, x, None)
        >>> float(estimate.gradient)  # d/dθ of 1 + θ + θ² at one half
        2.0

    References:
        Williams & Zipser, "A learning algorithm for continually running fully recurrent neural
        networks", 1989; equations (5) and (6) of the UORO paper.
    """

    estimand = FormerGuarantee()

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"exact"``."""
        return "exact"

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> Params:
        """Return the zero influence: a stack of one params-shaped tree per state coordinate.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`.
            StructureError: If a leaf of ``params`` or ``state`` is not an array.
        """
        require_model("RTRL.init", dynamics, params, state)
        return dynamics.backend.zeros(params, batch=(size(dynamics.backend, state),))

    def draw(self, sampler: Sampler, state: object) -> None:
        """Return ``None``: there is no randomness."""
        return

    def advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Params,
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[Params, State, Prediction]:
        """Advance the influence; the loss may come later.

        Returns:
            The next influence, the next state, and the output with the exact gradient of any loss
            of it.

        Raises:
            StructureError: If ``carry`` does not fit these params and this state.
        """
        backend = dynamics.backend
        require_like(
            backend,
            carry,
            params,
            call="RTRL.step(carry=...)",
            batch=(size(backend, state),),
            hint="Make it by init(dynamics, params, state), and pass on what step returns.",
        )
        outcome, pullback = dynamics.vjp(params, state, inputs)
        fresh_influence, jacobian = backend.vmap(lambda row: pullback(row, None))(
            basis(backend, state)
        )

        def gradient(cotangent: Any) -> Any:
            immediate, state_gradient = pullback(None, cotangent)
            carried = self.through(dynamics, params, carry, state_gradient)
            return backend.combine((1.0, immediate), (1.0, carried))

        # A coordinate without influence passes none on, even where its derivative is infinite.
        columns = where(backend, nonzero(backend, carry), coordinates(backend, jacobian).T)
        carried = mix(backend, columns.T, carry)
        influence = backend.combine((1.0, fresh_influence), (1.0, carried))
        return influence, outcome.next_state, Prediction(backend, outcome, gradient)

    def through(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Params,
        state_gradient: State,
    ) -> Params:
        """Pull a gradient of the state back through the influence: ``∂ℓ/∂s · G``."""
        backend = dynamics.backend
        lifted = backend.map(lambda leaf: leaf[None], state_gradient)
        row = where(backend, nonzero(backend, carry), coordinates(backend, lifted)[0])
        return mix(backend, row, carry)
