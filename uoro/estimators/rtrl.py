"""Real-Time Recurrent Learning: the exact influence, carried forward."""

from __future__ import annotations

from dataclasses import dataclass

from uoro.algebra import basis, coordinates, mix, size
from uoro.arguments import require_like, require_model
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.estimator import Estimate, Guarantee, Sampler


@dataclass(frozen=True)
class RTRL:
    """Exact online gradient for the whole state, all layers and carries together.

    Carries ``G_t = ∂s_t/∂θ`` as a stack of n trees shaped like the params, n being the number
    of state coordinates, and follows

        G_{t+1} = ∂F/∂s · G_t + ∂F/∂θ,      g = ∂ℓ/∂s · G_t + ∂ℓ/∂θ.

    One step costs n pullbacks, an n × n by n × params product, and memory n × params: it is
    the yardstick for small models, and the reason UORO exists for large ones.

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

    @property
    def guarantee(self) -> Guarantee:
        """It is exact."""
        return "exact"

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> Params:
        """Make the zero influence: a stack of one params-shaped tree per state coordinate.

        Raises:
            SettingError: If the dynamics are none.
            StructureError: If a leaf of params or state is no array.
        """
        require_model("RTRL.init", dynamics, params, state)
        return dynamics.backend.zeros(params, batch=(size(dynamics.backend, state),))

    def draw(self, sampler: Sampler, state: object) -> None:
        """Draw nothing."""
        return

    def step(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Params,
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[Params, State, Estimate]:
        """Advance the influence and give the exact gradient.

        Raises:
            StructureError: If the memory is not that of these params and this state.
        """
        backend = dynamics.backend
        require_like(
            backend,
            carry,
            params,
            call="RTRL.step(memory=...)",
            batch=(size(backend, state),),
            hint="Make it by init(dynamics, params, state), and pass on what step returns.",
        )
        outcome, pullback = dynamics.vjp(params, state, inputs)
        immediate, state_gradient = pullback(None, 1.0)
        fresh_influence, jacobian = backend.vmap(lambda row: pullback(row, None))(
            basis(backend, state)
        )

        row = coordinates(backend, backend.map(lambda leaf: leaf[None], state_gradient))[0]
        gradient = backend.combine((1.0, immediate), (1.0, mix(backend, row, carry)))
        carried = mix(backend, coordinates(backend, jacobian), carry)
        influence = backend.combine((1.0, fresh_influence), (1.0, carried))
        return influence, outcome.next_state, Estimate(outcome.loss, gradient, outcome.aux)
