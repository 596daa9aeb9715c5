"""The monitors that look at a run now and then, and add nothing to its steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from uoro.algebra import entry
from uoro.arguments import require_count
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro.estimators.streams import ParallelEstimator
from uoro.monitors.added import name_added, variance_added
from uoro.monitors.compiled import Compiled
from uoro.monitors.monitor import (
    require_independent,
    require_joint,
    require_pair,
    require_single,
    require_uoro,
    unwrap,
    unwrap_estimator,
)
from uoro.monitors.noise import name_noise, rank_noise
from uoro.monitors.pair import norms_of_pairs, read_norms
from uoro.monitors.radius import spectral_radius


class PairMonitor:
    """Norms of UORO's pairs; with streams, of all of them."""

    name = "pair"
    cost = "nothing as a run goes on; one pass over the pairs when asked"

    def __init__(self) -> None:
        self._norms = Compiled(
            lambda dynamics, axes: partial(norms_of_pairs, dynamics.backend, axes=axes)
        )

    def wrap(self, estimator: Estimator) -> Estimator:
        """Leave the estimator as it is."""
        require_uoro(estimator, "the monitor 'pair'")
        return estimator

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give root mean squares over the pairs, and whether all are finite, as 1 or 0."""
        uoro = require_uoro(estimator, "the monitor 'pair'")
        pair = require_pair(carry, "the monitor 'pair'")
        axes = (uoro.rank > 1) + isinstance(unwrap_estimator(estimator), ParallelEstimator)
        found = read_norms(dynamics.backend, self._norms(dynamics, axes)(pair))
        return {f"pair/{name}": float(value) for name, value in found._asdict().items()}


class AddedMonitor:
    """Variance that the last optimal reduction added; with streams, of all of them."""

    name = "added"
    cost = "nothing as a run goes on; the inner products of the k pairs when asked"

    def __init__(self) -> None:
        self._look = Compiled(
            lambda dynamics, stacked, streams: partial(
                variance_added, dynamics.backend, stacked=stacked, streams=streams
            )
        )

    def wrap(self, estimator: Estimator) -> Estimator:
        """Leave the estimator as it is, if its pairs are reduced together."""
        require_joint(estimator, "the monitor 'added'")
        return estimator

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give it as it is, and relative to the squared norm of the estimate it was added to."""
        uoro = require_joint(estimator, "the monitor 'added'")
        require_pair(carry, "the monitor 'added'")
        streams = isinstance(unwrap_estimator(estimator), ParallelEstimator)
        return name_added(*self._look(dynamics, uoro.rank > 1, streams)(unwrap(carry)))


class RadiusMonitor:
    """Spectral radius of a step; with streams, of the first.

    Args:
        iterations: How many jvps to take, the first time and each time after.
    """

    name = "radius"

    def __init__(self, *, iterations: int = 64) -> None:
        require_count(f"RadiusMonitor(iterations={iterations!r})", "iterations", iterations)
        self.cost = f"nothing as a run goes on; {iterations} jvps when asked"
        self._tangent: Any = None
        self._radius = Compiled(
            lambda dynamics: partial(spectral_radius, dynamics, iterations=iterations)
        )

    def wrap(self, estimator: Estimator) -> Estimator:
        """Leave the estimator as it is."""
        return estimator

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Go on from where it stopped last."""
        if isinstance(unwrap_estimator(estimator), ParallelEstimator):
            state, inputs = (entry(dynamics.backend, stack, 0) for stack in (state, inputs))
        if self._tangent is None:
            # As good as none, and of the shape it has from then on.
            backend = dynamics.backend
            self._tangent = backend.random(backend.key(0), state, "gaussian")
        radius, self._tangent = self._radius(dynamics)(params, state, inputs, tangent=self._tangent)
        return {"radius": float(radius)}


class NoiseMonitor:
    """Noise of the gradient of ``UORO(rank=k)``, from its own k pairs at the point of asking."""

    name = "noise"
    cost = "nothing as a run goes on; a forward pass, a vjp and k jvps when asked"

    def __init__(self) -> None:
        def make(dynamics: Dynamics[Any, Any, Any]) -> Callable[..., Any]:
            return partial(rank_noise, dynamics)

        self._noise = Compiled(make)

    def wrap(self, estimator: Estimator) -> Estimator:
        """Leave the estimator as it is, if it has pairs to compare."""
        require_single(estimator, "the monitor 'noise'")
        if require_independent(estimator, "the monitor 'noise'").rank < 2:
            raise SettingError(
                "the monitor 'noise': UORO(rank=1) has a single pair, which does not show its "
                "noise. Take UORO(rank=2) or more, or the monitor 'noise:replicas=4'."
            )
        return estimator

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give signal and noise of the gradient of the next step."""
        self.wrap(estimator)
        pair = require_pair(carry, "the monitor 'noise'")
        return name_noise(self._noise(dynamics)(params, pair, state, inputs))
