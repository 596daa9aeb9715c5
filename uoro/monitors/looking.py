"""The monitors that look at a run now and then, and add nothing to its steps."""

from __future__ import annotations

from functools import partial
from typing import Any

from uoro.algebra import entry
from uoro.arguments import mismatch, require_count
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro.estimators import JointUORO
from uoro.monitors.added import name_added, variance_added, variance_added_to_terms
from uoro.monitors.compiled import Compiled
from uoro.monitors.monitor import (
    Look,
    Looks,
    call_of,
    has_streams,
    require_independent,
    require_pair,
    require_reducing,
    require_single,
    require_terms,
    require_uoro,
    unwrap,
)
from uoro.monitors.noise import name_noise, rank_noise
from uoro.monitors.pair import norms_of_pairs, read_norms
from uoro.monitors.radius import spectral_radius


class PairMonitor(Looks):
    """Norms of UORO's pairs; with streams, of the pairs of all streams."""

    name = "pair"
    cost = "nothing per step; one pass over the pairs per measurement"

    def __init__(self) -> None:
        self._norms = Compiled(
            lambda dynamics, axes: partial(norms_of_pairs, dynamics.backend, axes=axes)
        )

    def wrap(self, estimator: Estimator) -> Estimator:
        """Return the same estimator."""
        require_uoro(estimator, call_of(self))
        return estimator

    def look(self, run: Look) -> dict[str, float]:
        """Return root mean squares over the pairs, and whether all are finite, as 1 or 0."""
        uoro = require_uoro(run.estimator, call_of(self))
        pair = require_pair(run.carry, call_of(self))
        axes = (uoro.rank > 1) + has_streams(run.estimator)
        found = read_norms(run.dynamics.backend, self._norms(run.dynamics, axes)(pair))
        return {f"pair/{name}": float(value) for name, value in found._asdict().items()}


class AddedMonitor(Looks):
    """Variance that the last reduction of `JointUORO` or `KroneckerSum` added, in all streams."""

    name = "added"
    cost = "nothing per step; the inner products of all pairs or terms per measurement"

    def __init__(self) -> None:
        self._pairs = Compiled(
            lambda dynamics, stacked, streams: partial(
                variance_added, dynamics.backend, stacked=stacked, streams=streams
            )
        )
        self._terms = Compiled(
            lambda dynamics, streams: partial(
                variance_added_to_terms, dynamics.backend, streams=streams
            )
        )

    def wrap(self, estimator: Estimator) -> Estimator:
        """Return the same estimator."""
        require_reducing(estimator, call_of(self))
        return estimator

    def look(self, run: Look) -> dict[str, float]:
        """Return the variance, and its ratio to the squared norm of the estimate."""
        inner, streams = require_reducing(run.estimator, call_of(self)), has_streams(run.estimator)
        if isinstance(inner, JointUORO):
            require_pair(run.carry, call_of(self))
            added = self._pairs(run.dynamics, inner.rank > 1, streams)
        else:
            require_terms(run.carry, call_of(self))
            added = self._terms(run.dynamics, streams)
        return name_added(*added(unwrap(run.carry)))


class RadiusMonitor(Looks):
    """Spectral radius of a step; with streams, of the first stream.

    Args:
        iterations: Number of Jacobian-vector products per measurement.
    """

    name = "radius"

    def __init__(self, *, iterations: int = 64) -> None:
        require_count(f"RadiusMonitor(iterations={iterations!r})", "iterations", iterations)
        self.cost = f"nothing per step; {iterations} JVPs per measurement"
        self._tangent: Any = None
        self._radius = Compiled(
            lambda dynamics: partial(spectral_radius, dynamics, iterations=iterations)
        )

    def wrap(self, estimator: Estimator) -> Estimator:
        """Return the same estimator."""
        return estimator

    def look(self, run: Look) -> dict[str, float]:
        """Return the radius, from an iteration that continues the last one."""
        backend, state, inputs = run.dynamics.backend, run.state, run.inputs
        if has_streams(run.estimator):
            state, inputs = (entry(backend, stack, 0) for stack in (state, inputs))
        if self._tangent is None:
            # Given from the first time on, so that one program is compiled and not two.
            self._tangent = backend.random(backend.key(0), state, "gaussian")
        radius, self._tangent = self._radius(run.dynamics)(
            run.params, state, inputs, tangent=self._tangent
        )
        return {"radius": float(radius)}


class NoiseMonitor(Looks):
    """Noise of the gradient of ``UORO(rank=k)`` at one point, from its own k pairs."""

    name = "noise"
    cost = "nothing per step; a forward pass, a VJP and k JVPs per measurement"

    def __init__(self) -> None:
        self._noise = Compiled(lambda dynamics: partial(rank_noise, dynamics))

    def wrap(self, estimator: Estimator) -> Estimator:
        """Return the same estimator."""
        require_single(estimator, call_of(self))
        if require_independent(estimator, call_of(self)).rank < 2:
            got = "UORO(rank=1), a single pair, which does not show its noise"
            hint = "Use UORO(rank=2), or the monitor 'noise:replicas=4'."
            expected = "two pairs or more"
            raise SettingError(mismatch(call_of(self), "estimator", expected, got, hint))
        return estimator

    def look(self, run: Look) -> dict[str, float]:
        """Return signal and noise of the gradient of the next step."""
        self.wrap(run.estimator)
        pair = require_pair(run.carry, call_of(self))
        return name_noise(self._noise(run.dynamics)(run.params, pair, run.state, run.inputs))
