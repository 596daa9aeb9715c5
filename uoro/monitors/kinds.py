"""The monitors: what each adds to a run, and what it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from uoro.algebra import take
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, require_count
from uoro.estimator import Estimator
from uoro.estimators import RTRL, RollingTruncated
from uoro.monitors.monitor import (
    require_pair,
    require_single,
    require_uoro,
    unwrap_estimator,
    wrapped,
)
from uoro.monitors.noise import GradientNoise, rank_noise, replica_noise
from uoro.monitors.pair import norms_of_pairs, read_norms
from uoro.monitors.radius import spectral_radius
from uoro.monitors.report import shadow_report
from uoro.monitors.shadow import Shadowed, ShadowMemory
from uoro.parallel import ParallelEstimator


@dataclass
class Compiled:
    """Functions made of dynamics and of how many axes there are, each compiled once."""

    make: Callable[..., Callable[..., Any]]
    kept: dict[Any, Callable[..., Any]] = field(default_factory=dict)

    def __call__(self, dynamics: Dynamics[Any, Any, Any], *settings: Any) -> Callable[..., Any]:
        """Give the function, made now or before."""
        if (dynamics, *settings) not in self.kept:
            made = self.make(dynamics, *settings)
            self.kept[dynamics, *settings] = dynamics.backend.compile(made)
        return self.kept[dynamics, *settings]


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
        memory: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give root mean squares over the pairs, and whether all are finite, as 1 or 0."""
        uoro = require_uoro(estimator, "the monitor 'pair'")
        pair = require_pair(memory, "the monitor 'pair'")
        axes = (uoro.rank > 1) + isinstance(unwrap_estimator(estimator), ParallelEstimator)
        found = read_norms(dynamics.backend, self._norms(dynamics, axes)(pair))
        return {f"pair/{name}": float(value) for name, value in found._asdict().items()}


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
        memory: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Go on from where it stopped last."""
        if isinstance(unwrap_estimator(estimator), ParallelEstimator):
            state, inputs = (take(dynamics.backend, stack, 0) for stack in (state, inputs))
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
        if require_uoro(estimator, "the monitor 'noise'").rank < 2:
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
        memory: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give signal and noise of the gradient of the next step."""
        self.wrap(estimator)
        pair = require_pair(memory, "the monitor 'noise'")
        return _named(self._noise(dynamics)(params, pair, state, inputs))


@dataclass(frozen=True)
class ReplicaMonitor:
    """Noise of UORO's gradient along the run, from independent replicas beside it.

    Args:
        replicas: How many.
        every: At how many steps there is one sample.

    Raises:
        SettingError: If one of them is not a positive integer.
    """

    replicas: int
    every: int = 1

    def __post_init__(self) -> None:
        require_count(f"{self._call}", "number of replicas", self.replicas)
        require_count(f"{self._call}", "number of steps", self.every)

    @property
    def name(self) -> str:
        """As it is spelled."""
        return f"noise:replicas={self.replicas}" + _spelled("every", self.every)

    @property
    def cost(self) -> str:
        """What it takes."""
        return f"{self.replicas} more UOROs at every step, each with a pair of its own"

    @property
    def _call(self) -> str:
        return f"the monitor '{self.name}'"

    def _shadow(self, estimator: Estimator) -> Estimator:
        require_single(estimator, self._call)
        uoro = require_uoro(estimator, self._call)
        return replace(uoro, rank=uoro.rank * self.replicas)

    def wrap(self, estimator: Estimator) -> Estimator:
        """Run the replicas beside the estimator."""
        return Shadowed(estimator, self._shadow(estimator), self.every)

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        memory: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give signal and noise over all samples so far."""
        found = _find(estimator, memory, self._shadow(estimator), self.every, self._call)
        return _named(replica_noise(dynamics.backend, found, self.replicas))


@dataclass(frozen=True)
class ShadowMonitor:
    """Cosine, variance and bias of the gradient along the run, beside a better one.

    Args:
        window: T, to take `RollingTruncated(T)` for the better one; exact `RTRL` if not given.
        every: At how many steps there is one sample.

    Raises:
        SettingError: If one of them is not a positive integer.
    """

    window: int | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.window is not None:
            require_count(self._call, "window", self.window)
        require_count(self._call, "number of steps", self.every)

    @property
    def name(self) -> str:
        """As it is spelled."""
        options = [
            f"{name}={value}"
            for name, value, usual in (("window", self.window, None), ("every", self.every, 1))
            if value != usual
        ]
        return "shadow" + (":" if options else "") + ",".join(options)

    @property
    def cost(self) -> str:
        """What it takes."""
        if self.window is None:
            return (
                "exact RTRL at every step: n pullbacks, a product n × n by n × params, and memory "
                "n × params, with n the coordinates of the state"
            )
        return f"{self.window} more pullbacks at every step, and the last {self.window} states"

    @property
    def _call(self) -> str:
        return f"the monitor '{self.name}'"

    @property
    def _shadow(self) -> Estimator:
        return RTRL() if self.window is None else RollingTruncated(self.window)

    def wrap(self, estimator: Estimator) -> Estimator:
        """Run the better estimator beside this one."""
        require_single(estimator, self._call)
        return Shadowed(estimator, self._shadow, self.every)

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        memory: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give what `shadow_report` finds."""
        found = _find(estimator, memory, self._shadow, self.every, self._call)
        report = shadow_report(dynamics.backend, found)
        return {f"shadow/{name}": value for name, value in report.items()}


def _spelled(option: str, value: int) -> str:
    return "" if value == 1 else f",{option}={value}"


def _named(found: GradientNoise) -> dict[str, float]:
    return {
        "noise/signal_squared": float(found.signal_squared),
        "noise/noise_squared": float(found.noise_squared),
        "noise/relative_variance": found.relative_variance,
    }


def _find(
    estimator: Estimator, memory: Any, shadow: Estimator, every: int, call: str
) -> ShadowMemory:
    found = wrapped(estimator, memory, shadow, every)
    if found is None:
        raise SettingError(
            f"{call}: its shadow is not in this run. Train with what its wrap(estimator) gives, "
            "and measure with that estimator and its memory."
        )
    return found
