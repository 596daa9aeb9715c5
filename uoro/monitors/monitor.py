"""The protocol of monitors, and what all monitors share: how to read a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

from uoro.arguments import mismatch
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro.estimators import (
    UORO,
    Influence,
    JointInfluence,
    JointUORO,
    KroneckerInfluence,
    KroneckerSum,
    ParallelEstimator,
)
from uoro.monitors.prequential import Prequential, PrequentialCarry
from uoro.monitors.shadow import ShadowCarry, Shadowed


class Monitor(Protocol):
    """A quantity that a training run can log of its own gradient.

    Laws: with the estimator that `wrap` returns, the gradients, states and signs of a run stay
    what they were; `measure` changes no argument. A monitor belongs to one run: it may keep
    compiled functions, and the point where its last measurement ended.

    Attributes:
        name: Spelling, as `make_monitor` reads it.
        cost: Cost of the monitor, in words.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def cost(self) -> str: ...  # noqa: D102

    def wrap(self, estimator: Estimator) -> Estimator:
        """Return the estimator to train with; the same one if the monitor adds nothing to a step.

        Args:
            estimator: Estimator of the run, or what another monitor's `wrap` returned.

        Raises:
            SettingError: If the monitor does not apply to the estimator.
        """
        ...

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Measure a run before its next step.

        Args:
            dynamics: Model.
            estimator: Estimator, wrapped by all monitors of the run.
            params: Present parameters.
            carry: Present carry of ``estimator``.
            state: Present hidden state.
            inputs: Next item of the stream.

        Returns:
            Python floats by names such as ``"pair/norm"``. A number that cannot be determined is
            NaN.

        Raises:
            SettingError: If the monitor does not apply to the estimator.
        """
        ...


class Look(NamedTuple):
    """A run before its next step: the arguments of `Monitor.measure`."""

    dynamics: Dynamics[Any, Any, Any]
    estimator: Estimator
    params: Any
    carry: Any
    state: Any
    inputs: Any


class Looks(ABC):
    """`Monitor.measure`, by way of one argument."""

    @abstractmethod
    def look(self, run: Look) -> dict[str, float]:
        """Measure a run before its next step."""

    def measure(
        self,
        dynamics: Dynamics[Any, Any, Any],
        estimator: Estimator,
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
    ) -> dict[str, float]:
        """Measure a run before its next step, as `Monitor.measure` says."""
        return self.look(Look(dynamics, estimator, params, carry, state, inputs))


def unwrap(carry: Any) -> Any:
    """Return the carry of the estimator within all that surround it."""
    while isinstance(carry, ShadowCarry | PrequentialCarry):
        carry = carry.estimator
    return carry


def prequential(carry: Any) -> PrequentialCarry:
    """Return the carry of `Prequential`, within shadows."""
    while isinstance(carry, ShadowCarry):
        carry = carry.estimator
    assert isinstance(carry, PrequentialCarry)
    return carry


def unwrap_estimator(estimator: Estimator) -> Estimator:
    """Return the estimator within all that surround it."""
    while isinstance(estimator, Shadowed | Prequential):
        estimator = estimator.estimator
    return estimator


def unwrap_streams(estimator: Estimator) -> Estimator:
    """Return the estimator of one stream, within shadows and streams."""
    inner = unwrap_estimator(estimator)
    return inner.estimator if isinstance(inner, ParallelEstimator) else inner


def wrapped(estimator: Estimator, carry: Any, shadow: Estimator, every: int) -> ShadowCarry | None:
    """Return the carry of one shadow among those around an estimator; the outer of equal ones."""
    while isinstance(estimator, Shadowed) and isinstance(carry, ShadowCarry):
        if (estimator.shadow, estimator.every) == (shadow, every):
            return carry
        estimator, carry = estimator.estimator, carry.estimator
    return None


def has_streams(estimator: Estimator) -> bool:
    """Return whether an estimator, within its shadows, runs several streams."""
    return isinstance(unwrap_estimator(estimator), ParallelEstimator)


def call_of(monitor: Monitor) -> str:
    """Return what to call a monitor in errors."""
    return f"the monitor '{monitor.name}'"


def require_single(estimator: Estimator, call: str) -> None:
    """Check that an estimator runs a single stream.

    Raises:
        SettingError: If the estimator runs several streams.
    """
    if has_streams(estimator):
        hint = "Use the monitor on a run with a single stream, or leave it out."
        raise SettingError(mismatch(call, "", "one stream", "several streams", hint))


def require_uoro(estimator: Estimator, call: str) -> UORO | JointUORO:
    """Return the UORO within shadows and streams.

    Raises:
        SettingError: If the estimator carries no pairs.
    """
    inner = unwrap_streams(estimator)
    if not isinstance(inner, UORO | JointUORO):
        got = f"{type(inner).__name__}, which carries no pairs"
        hint = "Use the monitor with UORO, or leave it out."
        raise SettingError(mismatch(call, "estimator", "UORO", got, hint))
    return inner


def require_independent(estimator: Estimator, call: str) -> UORO:
    """Return the UORO within shadows and streams, whose pairs are independent of each other.

    Raises:
        SettingError: If the pairs are one estimate together, or there are none.
    """
    uoro = require_uoro(estimator, call)
    if isinstance(uoro, JointUORO):
        got = "JointUORO, whose pairs are one estimate together and do not show its noise"
        hint = "Use UORO(rank=k), or leave the monitor out."
        raise SettingError(mismatch(call, "estimator", "independent pairs", got, hint))
    return uoro


def require_reducing(estimator: Estimator, call: str) -> JointUORO | KroneckerSum:
    """Return the estimator within shadows and streams, which reduces pairs or terms.

    Raises:
        SettingError: If the pairs are independent, or there are none.
    """
    inner = unwrap_streams(estimator)
    if isinstance(inner, KroneckerSum):
        return inner
    uoro = require_uoro(estimator, call)
    if isinstance(uoro, UORO):
        got = "UORO, in which no variance is known to be added"
        hint = "Use JointUORO(rank) or KroneckerSum(rank), or leave the monitor out."
        raise SettingError(mismatch(call, "estimator", "JointUORO or KroneckerSum", got, hint))
    return uoro


def require_pair(carry: Any, call: str) -> Influence[Any, Any]:
    """Return the pair, or the pairs, within a carry.

    Raises:
        SettingError: If the carry holds no pair.
    """
    pair = unwrap(carry)
    if isinstance(pair, JointInfluence):
        return Influence(pair.tangent, pair.cotangent)
    if not isinstance(pair, Influence):
        hint = "Measure once the run has begun, with the carry of its estimator."
        raise SettingError(mismatch(call, "carry", "that of UORO", type(pair).__name__, hint))
    return pair


def require_terms(carry: Any, call: str) -> None:
    """Check that a carry holds the terms of a Kronecker sum.

    Raises:
        SettingError: If it does not.
    """
    if not isinstance(unwrap(carry), KroneckerInfluence):
        hint = "Measure once the run has begun, with the carry of its estimator."
        got = type(unwrap(carry)).__name__
        raise SettingError(mismatch(call, "carry", "that of KroneckerSum", got, hint))
