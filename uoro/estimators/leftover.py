"""A baseline of the influence, and the model in which the rest is the influence."""

from __future__ import annotations

from typing import Any, NamedTuple

from uoro.algebra import coordinates, working_precision
from uoro.derivatives.locality import Locality
from uoro.dynamics import Dynamics, Moment, Outcome, Pullback
from uoro.estimators.local_influence import (
    LocalInfluence,
    advance_local,
    along,
    pull_rows,
    push_rows,
    through_local,
)


class Now(NamedTuple):
    """A step, and the baseline that it arrives with.

    Attributes:
        dynamics: The model.
        locality: Its locality.
        point: Params, state and inputs.
        baseline: B.
        taken: Outcome and pullback of the model at the point.
    """

    dynamics: Dynamics[Any, Any, Any]
    locality: Locality
    point: Moment
    baseline: LocalInfluence
    taken: tuple[Outcome[Any], Pullback[Any, Any]]


def advance_baseline(now: Now, probes: Any) -> LocalInfluence:
    """Return B' = D B + E, with D estimated from p JVPs of random signs for each colour.

    Args:
        now: The step.
        probes: A stack of p trees of signs.
    """
    dynamics, locality, point, baseline, (_, pullback) = now
    backend, colours = dynamics.backend, locality.colours
    precision = working_precision(backend, (point.state, point.params))
    selectors, signs = locality.selectors(backend, precision), coordinates(backend, probes)
    # Each colour by itself, so that coordinates of a unit do not disturb each other.
    rows = (selectors[:, None, :] * signs[None, :, :]).reshape((-1, locality.size))
    moved = push_rows(dynamics, point, rows)
    moved = moved.reshape((len(colours), len(signs), locality.size))
    blocks = {
        # Within ±1, so that errors of the estimate do not make the baseline grow.
        (j, source): backend.xp.clip(
            (along(signs, colours[source]) * along(moved[source], colours[j])).mean(0), -1.0, 1.0
        )
        for j, source in locality.own_pairs
    }
    fresh = pull_rows(backend, pullback, point.state, selectors)
    return advance_local(backend, locality, blocks, baseline, fresh)


class Leftover:
    """A model, at one point, in which the influence beyond a baseline is the influence.

    Forward pass and JVP are those of the model. A cotangent ν of the next state is pulled back to
    ``νᵀ (J B + I - B')``, and one of the output to the gradient within the step and through B.

    Args:
        now: The step, with B.
        after: B'.
    """

    def __init__(self, now: Now, after: LocalInfluence) -> None:
        self.backend = now.dynamics.backend
        self.span = now.dynamics.span
        self.forward, self.jvp = now.dynamics.forward, now.dynamics.jvp
        self._now, self._after = now, after

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Return the outcome, and the pullback."""
        outcome, whole = self._now.taken

        def local(baseline: LocalInfluence, cotangent: Any) -> Any:
            return through_local(self.backend, self._now.locality, params, baseline, cotangent)

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            by_params, by_state = whole(state_cotangent, output_cotangent)
            terms = [(1.0, by_params), (1.0, local(self._now.baseline, by_state))]
            if state_cotangent is not None:
                terms.append((-1.0, local(self._after, state_cotangent)))
            return self.backend.combine(*terms), by_state

        return outcome, pullback
