"""A baseline of the influence, and the model in which the rest is the influence."""

from __future__ import annotations

from typing import Any, NamedTuple

from uoro.algebra import coordinates, shaped, working_precision
from uoro.backend import Backend
from uoro.derivatives.locality import Locality
from uoro.dynamics import Dynamics, Outcome, Pullback
from uoro.estimators.local_influence import (
    LocalInfluence,
    advance_local,
    along,
    own_pairs,
    through_local,
)


class Now(NamedTuple):
    """What the baseline of a step depends on.

    Attributes:
        dynamics: The model.
        locality: Its locality.
        params: θ.
        baseline: B.
        state: s_t.
        inputs: One item of the stream.
    """

    dynamics: Dynamics[Any, Any, Any]
    locality: Locality
    params: Any
    baseline: LocalInfluence
    state: Any
    inputs: Any


def advance_baseline(now: Now, probes: Any) -> LocalInfluence:
    """Return B' = D B + E, with D estimated from p JVPs of random signs for each colour.

    Args:
        now: The step.
        probes: A stack of p trees of signs.
    """
    dynamics, locality, params, baseline, state, inputs = now
    backend, xp = dynamics.backend, dynamics.backend.xp
    zeros, colours = backend.zeros(state), locality.colours
    selectors = locality.selectors(backend, working_precision(backend, (state, params)))
    # Each colour by itself, so that coordinates of a unit do not disturb each other.
    signs = coordinates(backend, probes)
    rows = (selectors[:, None, :] * signs[None, :, :]).reshape((-1, locality.size))
    tangents = shaped(backend, rows, zeros)
    pushed = backend.vmap(lambda v: dynamics.jvp(params, state, inputs, v)[0])(tangents)
    moved = coordinates(backend, pushed).reshape((len(colours), len(signs), locality.size))
    blocks = {
        # Within ±1, so that errors of the estimate do not make the baseline grow.
        (j, source): xp.clip(
            (along(signs, colours[source]) * along(moved[source], colours[j])).mean(0), -1.0, 1.0
        )
        for j, source in own_pairs(locality)
    }
    _, pullback = dynamics.vjp(params, state, inputs)
    pulled = backend.vmap(lambda v: pullback(v, None)[0])(shaped(backend, selectors, zeros))
    fresh = dict(backend.named_leaves(pulled))
    return advance_local(backend, locality, blocks, baseline, fresh)


class Leftover:
    """A model in which the influence beyond a baseline is the influence.

    Forward pass, JVP and the pullback of outputs are those of the model. A cotangent ν of the next
    state is pulled back to ``νᵀ (J B + I - B')``.

    Args:
        dynamics: The model.
        locality: Its locality.
        before: B.
        after: B'.
    """

    def __init__(
        self,
        dynamics: Dynamics[Any, Any, Any],
        locality: Locality,
        before: LocalInfluence,
        after: LocalInfluence,
    ) -> None:
        self.backend: Backend = dynamics.backend
        self.span = dynamics.span
        self._dynamics, self._locality = dynamics, locality
        self._before, self._after = before, after
        self.latest: Any = None

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Compute the next state and the output."""
        return self._dynamics.forward(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Compute the Jacobian-vector product in the state."""
        return self._dynamics.jvp(params, state, inputs, state_tangent)

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Compute the outcome, and the pullback."""
        outcome, whole = self.latest = self._dynamics.vjp(params, state, inputs)

        def local(baseline: LocalInfluence, cotangent: Any) -> Any:
            pairs = own_pairs(self._locality)
            return through_local(self.backend, self._locality, pairs, params, baseline, cotangent)

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            if state_cotangent is None:
                return whole(None, output_cotangent)
            by_params, by_state = whole(state_cotangent, None)
            combine = self.backend.combine
            by_params = combine(
                (1.0, by_params),
                (1.0, local(self._before, by_state)),
                (-1.0, local(self._after, state_cotangent)),
            )
            if output_cotangent is None:
                return by_params, by_state
            further = whole(None, output_cotangent)
            return combine((1.0, by_params), (1.0, further[0])), combine(
                (1.0, by_state), (1.0, further[1])
            )

        return outcome, pullback
