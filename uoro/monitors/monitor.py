"""The protocol that ties a monitor to a run, and how it finds what it looks at."""

from __future__ import annotations

from typing import Any, Protocol

from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro.estimators import UORO, Influence, JointInfluence, JointUORO
from uoro.estimators.streams import ParallelEstimator
from uoro.monitors.shadow import ShadowCarry, Shadowed


class Monitor(Protocol):
    """Something to know of a run that has its price.

    Laws: with `wrap` the gradients, states and draws of a run stay what they were; `measure`
    changes no argument. A monitor belongs to one run: it may keep what it compiled, and where it
    looked last.

    Attributes:
        name: As it is spelled.
        cost: What it takes, in words.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def cost(self) -> str: ...  # noqa: D102

    def wrap(self, estimator: Estimator) -> Estimator:
        """Make the estimator to train with; the same one where looking now and then will do.

        Args:
            estimator: That of the run, or what another monitor's `wrap` gave.

        Raises:
            SettingError: If the monitor has nothing to say of such an estimator.
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
        """Look at a run before it takes a step.

        Args:
            dynamics: The model.
            estimator: As all monitors of the run wrapped it.
            params: The present params.
            carry: The present memory of ``estimator``.
            state: The present state.
            inputs: The item that comes next.

        Returns:
            Numbers with flat names, such as ``pair/norm``.

        Raises:
            SettingError: If the estimator is none that `wrap` gave or would take.
        """
        ...


def unwrap(carry: Any) -> Any:
    """Find the memory of the estimator that all shadows are around."""
    while isinstance(carry, ShadowCarry):
        carry = carry.estimator
    return carry


def unwrap_estimator(estimator: Estimator) -> Estimator:
    """Find the estimator that all shadows are around."""
    while isinstance(estimator, Shadowed):
        estimator = estimator.estimator
    return estimator


def wrapped(estimator: Estimator, carry: Any, shadow: Estimator, every: int) -> ShadowCarry | None:
    """Find the memory of one shadow among those around an estimator; the outer of equal ones."""
    while isinstance(estimator, Shadowed) and isinstance(carry, ShadowCarry):
        if (estimator.shadow, estimator.every) == (shadow, every):
            return carry
        estimator, carry = estimator.estimator, carry.estimator
    return None


def require_single(estimator: Estimator, call: str) -> None:
    """Refuse several streams.

    Raises:
        SettingError: If the estimator runs several.
    """
    if isinstance(unwrap_estimator(estimator), ParallelEstimator):
        raise SettingError(
            f"{call}: the estimator runs several streams, and this monitor follows one. Use it on "
            "a run with a single stream, or leave it out."
        )


def require_uoro(estimator: Estimator, call: str) -> UORO | JointUORO:
    """Return the UORO or JointUORO within shadows and streams.

    Raises:
        SettingError: If it is something else.
    """
    inner = unwrap_estimator(estimator)
    if isinstance(inner, ParallelEstimator):
        inner = inner.estimator
    if not isinstance(inner, (UORO, JointUORO)):
        raise SettingError(
            f"{call}: the estimator is {type(inner).__name__}, which carries no pairs. Use this "
            "monitor with UORO, or leave it out."
        )
    return inner


def require_independent(estimator: Estimator, call: str) -> UORO:
    """Return the UORO within shadows and streams, whose pairs are independent replicas.

    Raises:
        SettingError: If the pairs are one estimate together, or there are none.
    """
    uoro = require_uoro(estimator, call)
    if isinstance(uoro, JointUORO):
        raise SettingError(
            f"{call}: the pairs of JointUORO are one estimate together, and do not show its "
            "noise. Use UORO(rank), or leave the monitor out."
        )
    return uoro


def require_joint(estimator: Estimator, call: str) -> JointUORO:
    """Return the JointUORO within shadows and streams.

    Raises:
        SettingError: If the pairs are independent, or there are none.
    """
    uoro = require_uoro(estimator, call)
    if not isinstance(uoro, JointUORO):
        raise SettingError(
            f"{call}: for the pairs of UORO no variance is known to be added. Use "
            "JointUORO(rank), or leave the monitor out."
        )
    return uoro


def require_pair(carry: Any, call: str) -> Influence[Any, Any]:
    """Give the pair within a memory, or the pairs, whether they are averaged or added up.

    Raises:
        SettingError: If there is none.
    """
    pair = unwrap(carry)
    if isinstance(pair, JointInfluence):
        return Influence(pair.tangent, pair.cotangent)
    if not isinstance(pair, Influence):
        raise SettingError(
            f"{call}: the memory is {type(pair).__name__}, wanted is that of UORO. Measure once "
            "the run has begun, with the memory of its estimator."
        )
    return pair
