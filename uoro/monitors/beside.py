"""The monitors that run another estimator beside the estimator of the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from uoro.arguments import mismatch, require_count
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro.estimators import RTRL, RollingTruncated
from uoro.monitors.compiled import Compiled
from uoro.monitors.monitor import (
    Look,
    Looks,
    call_of,
    require_independent,
    require_single,
    wrapped,
)
from uoro.monitors.noise import name_noise, replica_noise
from uoro.monitors.report import look_at_means, read_report
from uoro.monitors.shadow import ShadowCarry, Shadowed


@dataclass(frozen=True)
class ReplicaMonitor(Looks):
    """Noise of UORO's gradient along the run, from independent replicas beside it.

    Args:
        replicas: Number of replicas.
        every: Number of steps from one sample to the next.

    Raises:
        SettingError: If either is not a positive integer.
    """

    replicas: int
    every: int = 1

    def __post_init__(self) -> None:
        require_count(call_of(self), "replicas", self.replicas)
        require_count(call_of(self), "every", self.every)

    @property
    def name(self) -> str:
        """Spelling."""
        return f"noise:replicas={self.replicas}" + (f",every={self.every}" * (self.every != 1))

    @property
    def cost(self) -> str:
        """Cost, in words."""
        return f"{self.replicas} more UOROs at every step, each with a pair of its own"

    def _shadow(self, estimator: Estimator) -> Estimator:
        require_single(estimator, call_of(self))
        uoro = require_independent(estimator, call_of(self))
        return replace(uoro, rank=uoro.rank * self.replicas)

    def wrap(self, estimator: Estimator) -> Estimator:
        """Return the estimator with the replicas beside it."""
        return Shadowed(estimator, self._shadow(estimator), self.every)

    def look(self, run: Look) -> dict[str, float]:
        """Return signal and noise over all samples so far."""
        found = _find(run, self._shadow(run.estimator), self.every, call_of(self))
        return name_noise(replica_noise(run.dynamics.backend, found, self.replicas))


@dataclass(frozen=True)
class ShadowMonitor(Looks):
    """Cosine, variance and bias of the gradient along the run, compared with a better gradient.

    Args:
        window: T, for the gradient of `RollingTruncated(T)`; ``None`` for exact `RTRL`.
        every: Number of steps from one sample to the next.

    Raises:
        SettingError: If either is not a positive integer.
    """

    window: int | None = None
    every: int = 1
    _means: Compiled = field(
        default_factory=lambda: Compiled(lambda dynamics: partial(look_at_means, dynamics.backend)),
        init=False,
        repr=False,
        compare=False,
    )

    def __post_init__(self) -> None:
        if self.window is not None:
            require_count(call_of(self), "window", self.window)
        require_count(call_of(self), "every", self.every)

    @property
    def name(self) -> str:
        """Spelling."""
        options = [
            f"{name}={value}"
            for name, value, usual in (("window", self.window, None), ("every", self.every, 1))
            if value != usual
        ]
        return "shadow" + (":" if options else "") + ",".join(options)

    @property
    def cost(self) -> str:
        """Cost, in words."""
        if self.window is None:
            return (
                "exact RTRL at every step: n VJPs, a product n × n by n × params, and memory "
                "n × params, with n the coordinates of the state"
            )
        return f"{self.window} more VJPs at every step, and the last {self.window} states"

    @property
    def _shadow(self) -> Estimator:
        return RTRL() if self.window is None else RollingTruncated(self.window)

    def wrap(self, estimator: Estimator) -> Estimator:
        """Return the estimator with the better one beside it."""
        require_single(estimator, call_of(self))
        return Shadowed(estimator, self._shadow, self.every)

    def look(self, run: Look) -> dict[str, float]:
        """Return the numbers of `uoro.monitors.shadow_report`."""
        found = _find(run, self._shadow, self.every, call_of(self))
        means = self._means(run.dynamics)(found.samples)
        report = read_report(run.dynamics.backend, found.samples.batches, means)
        return {f"shadow/{name}": value for name, value in report.items()}


def _find(run: Look, shadow: Estimator, every: int, call: str) -> ShadowCarry:
    found = wrapped(run.estimator, run.carry, shadow, every)
    if found is None:
        hint = "Train with the estimator that wrap(estimator) returns, and measure with its carry."
        raise SettingError(mismatch(call, "carry", "its shadow", "a run without it", hint))
    return found
