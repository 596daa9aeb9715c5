"""The monitors that run another estimator beside that of the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from uoro.arguments import require_count
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro.estimators import RTRL, RollingTruncated
from uoro.monitors.compiled import Compiled
from uoro.monitors.monitor import require_independent, require_single, wrapped
from uoro.monitors.noise import name_noise, replica_noise
from uoro.monitors.report import look_at_means, read_report
from uoro.monitors.shadow import ShadowCarry, Shadowed


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
        uoro = require_independent(estimator, self._call)
        return replace(uoro, rank=uoro.rank * self.replicas)

    def wrap(self, estimator: Estimator) -> Estimator:
        """Run the replicas beside the estimator."""
        return Shadowed(estimator, self._shadow(estimator), self.every)

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give signal and noise over all samples so far."""
        found = _find(estimator, carry, self._shadow(estimator), self.every, self._call)
        return name_noise(replica_noise(dynamics.backend, found, self.replicas))


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
    _look: Compiled = field(
        default_factory=lambda: Compiled(lambda dynamics: partial(look_at_means, dynamics.backend)),
        init=False,
        repr=False,
        compare=False,
    )

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
        carry: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Give what `uoro.monitors.shadow_report` finds."""
        found = _find(estimator, carry, self._shadow, self.every, self._call)
        means = self._look(dynamics)(found.samples)
        report = read_report(dynamics.backend, found.samples.batches, means)
        return {f"shadow/{name}": value for name, value in report.items()}


def _spelled(option: str, value: int) -> str:
    return "" if value == 1 else f",{option}={value}"


def _find(
    estimator: Estimator, carry: Any, shadow: Estimator, every: int, call: str
) -> ShadowCarry:
    found = wrapped(estimator, carry, shadow, every)
    if found is None:
        raise SettingError(
            f"{call}: its shadow is not in this run. Train with what its wrap(estimator) gives, "
            "and measure with that estimator and its memory."
        )
    return found
